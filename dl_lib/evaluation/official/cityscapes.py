"""Official Cityscapes scores (https://github.com/mcordts/cityscapesScripts, pixel-level semantic labeling).

The script runs unmodified with four options set: no output, no result file, and no instance-level scores, for which
version 2.3.0 calls `numpy.in1d`, removed in numpy 2.4. Class and category scores do not depend on it.
"""

from __future__ import annotations

import contextlib
import copy
import io
import logging
import math
from collections.abc import Sequence
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any

from dl_lib.data.datasets.cityscapes import CITYSCAPES_META
from dl_lib.data.errors import InvalidSampleError, MissingDataError, data_errors_shared
from dl_lib.evaluation.predictions.label_files import label_path
from dl_lib.evaluation.scores.evaluator import SemSegEvaluator
from dl_lib.evaluation.scores.result import EvaluationResult, ImageRecord, OfficialScores
from dl_lib.utils import comm
from dl_lib.utils.extras import requires_extra

__all__ = ["CityscapesEvaluator", "ground_truth_path", "official_scores"]

_PACKAGE = "cityscapesScripts"
_IMAGE_FOLDER, _IMAGE_SUFFIX = "leftImg8bit", "_leftImg8bit.png"
_LAYOUT_PARTS = 4  # trailing components of an image path: folder, split, city, file
_COARSE_SPLIT = "train_extra"  # the only split without fine annotations


class CityscapesEvaluator(SemSegEvaluator):
    """Evaluator that adds the official Cityscapes scores of the label PNGs written by `LabelPngWriter`.

    Args:
        dataset_name: Registered name of the dataset.
        folder: Folder of the label PNGs, shared by all processes.
        settings: Arguments `absent_rule` and `boundary_iou` of `SemSegEvaluator`; the official script implements the
            rule `zero_if_predicted`.

    Raises:
        MissingExtraError: If cityscapesScripts is not installed.
    """

    def __init__(self, dataset_name: str, *, folder: Path, **settings: Any) -> None:
        meta = CITYSCAPES_META
        super().__init__(dataset_name, class_names=meta.class_names, ignore_value=meta.ignore_value, **settings)
        self.folder = folder
        _import_script()  # fail before the evaluation if it is not installed

    def evaluate(self) -> EvaluationResult:
        """Return the result of `SemSegEvaluator` with the official scores, computed by the main process."""
        result = super().evaluate()
        official = None
        with data_errors_shared():
            if comm.is_main_process():
                official = official_scores(result.images, folder=self.folder)
        return replace(result, official=comm.broadcast(official))


def official_scores(images: Sequence[ImageRecord], *, folder: Path) -> OfficialScores:
    """Compute the official scores of the label PNGs of these images, whose files are in the Cityscapes folder layout.

    Raises:
        MissingDataError: If a ground truth file is missing in the layout.
        InvalidSampleError: If the script rejects a file.
        MissingExtraError: If cityscapesScripts is not installed.
    """
    script = _import_script()
    logging.getLogger(__name__).info("Computing official Cityscapes scores of %d label PNGs", len(images))
    settings = copy.copy(script.args)  # script.args is global state
    settings.evalInstLevelScore = settings.evalPixelAccuracy = settings.JSONOutput = False
    settings.quiet = True
    predictions = [str(label_path(folder, image.image_id)) for image in images]
    truths = [str(ground_truth_path(image.file_name)) for image in images]
    output = io.StringIO()
    try:
        with contextlib.redirect_stdout(output):
            scores = script.evaluateImgLists(predictions, truths, settings)
    except SystemExit:  # the script prints errors and exits
        raise InvalidSampleError(
            "the official Cityscapes script must accept all files; fix those that its output names. "
            f"Received: {output.getvalue().strip()}"
        ) from None
    return OfficialScores(
        source=f"{_PACKAGE} {metadata.version(_PACKAGE)}",
        mean_class_iou=_or_none(scores["averageScoreClasses"]),
        mean_category_iou=_or_none(scores["averageScoreCategories"]),
        class_iou={name: _or_none(scores["classScores"][name]) for name in CITYSCAPES_META.class_names},
        # The category "void" is not scored.
        category_iou={name: _or_none(iou) for name, iou in scores["categoryScores"].items() if name != "void"},
    )


def ground_truth_path(image: str) -> Path:
    """Return the label id file of an image: `gtFine/val/CITY/...` for `leftImg8bit/val/CITY/...`.

    Raises:
        MissingDataError: If there is no such file.
    """
    path = Path(image)
    if len(path.parts) < _LAYOUT_PARTS or path.parts[-4] != _IMAGE_FOLDER:
        raise MissingDataError(
            f"official scores need images in the Cityscapes layout, {_IMAGE_FOLDER}/SPLIT/CITY/*{_IMAGE_SUFFIX}; use "
            f"that layout or set TEST.OFFICIAL_SCORES=False. Received: image={image!r}"
        )
    split, city = path.parts[-3:-1]
    kind = "gtCoarse" if split == _COARSE_SPLIT else "gtFine"
    name = f"{path.name.removesuffix(_IMAGE_SUFFIX)}_{kind}_labelIds.png"
    label = path.parents[3] / kind / split / city / name
    if not label.is_file():
        raise MissingDataError(
            "official scores need the label id file of every image; "
            f"extract the {kind} archive again, or set TEST.OFFICIAL_SCORES=False. "
            f"Received: image={image!r}, missing label={str(label)!r}"
        )
    return label


def _import_script() -> ModuleType:
    with requires_extra("cityscapes", feature="TEST.OFFICIAL_SCORES", packages=_PACKAGE):
        from cityscapesscripts.evaluation import evalPixelLevelSemanticLabeling
    return evalPixelLevelSemanticLabeling


def _or_none(score: float) -> float | None:
    return None if math.isnan(score) else float(score)
