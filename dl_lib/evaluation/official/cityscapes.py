"""Scores by the official script of Cityscapes, https://github.com/mcordts/cityscapesScripts: pixel-level labels.

The script is used as it is, with four of its switches set: it neither prints nor writes its own file, and it leaves
out the scores of instances, because version 2.3.0 calls `numpy.in1d` for them, which numpy 2.4 no longer has. Classes
and categories are counted without it.
"""

from __future__ import annotations

import contextlib
import copy
import io
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any

from dl_lib.config.choices import AbsentRule
from dl_lib.data.datasets.cityscapes import CITYSCAPES_META
from dl_lib.data.errors import InvalidSampleError, MissingDataError
from dl_lib.evaluation.predictions.label_files import label_path
from dl_lib.evaluation.scores.evaluator import SemSegEvaluator
from dl_lib.evaluation.scores.result import EvaluationResult, ImageRecord, OfficialScores
from dl_lib.utils import comm

__all__ = ["CityscapesEvaluator", "ground_truth_path", "official_scores"]

_PACKAGE = "cityscapesScripts"
_IMAGE_FOLDER, _IMAGE_ENDING = "leftImg8bit", "_leftImg8bit.png"
_LAYOUT_PARTS = 4  # of a path: the folder of images, split, city, file
_COARSE_SPLIT = "train_extra"  # the one that has coarse annotation only


class CityscapesEvaluator(SemSegEvaluator):
    """Ours, and beside it the official scores of the label PNGs that a `LabelPngWriter` has written.

    Args:
        dataset_name: the data set's registered name.
        folder: where the PNGs are; all processes have to share it.
        absent_rule: as for `SemSegEvaluator`; the official script's is `zero_if_predicted`.
        boundary_iou: as for `SemSegEvaluator`.

    Raises:
        ImportError: if the script is not installed.
    """

    def __init__(
        self,
        dataset_name: str,
        *,
        folder: Path,
        absent_rule: AbsentRule = "exclude",
        boundary_iou: bool = False,
    ) -> None:
        super().__init__(
            dataset_name,
            class_names=CITYSCAPES_META.class_names,
            ignore_value=CITYSCAPES_META.ignore_value,
            absent_rule=absent_rule,
            boundary_iou=boundary_iou,
        )
        self.folder = folder
        _import_script()  # better now than after the last image

    def evaluate(self) -> EvaluationResult:
        """As that of `SemSegEvaluator`, with the official scores, which the main process has computed."""
        result = super().evaluate()
        official = official_scores(result.images, folder=self.folder) if comm.is_main_process() else None
        return replace(result, official=comm.broadcast(official))


def official_scores(images: Sequence[ImageRecord], *, folder: Path) -> OfficialScores:
    """What the official script says of the label PNGs of these images.

    Args:
        images: whose file names are those of Cityscapes' layout.
        folder: where their PNGs are.

    Raises:
        MissingDataError: if there is no ground truth where the layout has it.
        InvalidSampleError: if the script refuses a file.
        ImportError: if the script is not installed.
    """
    script = _import_script()
    logging.getLogger(__name__).info("the official script of Cityscapes looks at %d label PNGs", len(images))
    settings = copy.copy(script.args)  # its own is one for the whole process
    settings.evalInstLevelScore = settings.evalPixelAccuracy = settings.JSONOutput = False
    settings.quiet = True
    predictions = [str(label_path(folder, image.image_id)) for image in images]
    truths = [str(ground_truth_path(image.file_name)) for image in images]
    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(said):
            scores = script.evaluateImgLists(predictions, truths, settings)
    except SystemExit:  # its way to report an error, after having printed it
        raise InvalidSampleError(
            f"the official script of Cityscapes ended with an error. Received: {said.getvalue().strip()}"
        ) from None
    return OfficialScores(
        source=f"{_PACKAGE} {metadata.version(_PACKAGE)}",
        mean_class_iou=_or_none(scores["averageScoreClasses"]),
        mean_category_iou=_or_none(scores["averageScoreCategories"]),
        class_iou={name: _or_none(scores["classScores"][name]) for name in CITYSCAPES_META.class_names},
        category_iou={name: _or_none(iou) for name, iou in _categories(scores).items()},
    )


def ground_truth_path(image: str) -> Path:
    """The file of label ids of an image, by the layout: `leftImg8bit/val/CITY/...` has `gtFine/val/CITY/...`.

    Raises:
        MissingDataError: if there is no such file.
    """
    path = Path(image)
    if len(path.parts) < _LAYOUT_PARTS or path.parts[-4] != _IMAGE_FOLDER:
        raise MissingDataError(
            f"the label of an image is found by the layout of Cityscapes, {_IMAGE_FOLDER}/SPLIT/CITY/*{_IMAGE_ENDING}, "
            f"and this one lies elsewhere; set TEST.OFFICIAL_SCORES to False. Received: image={image!r}"
        )
    split, city = path.parts[-3:-1]
    kind = "gtCoarse" if split == _COARSE_SPLIT else "gtFine"
    name = f"{path.name.removesuffix(_IMAGE_ENDING)}_{kind}_labelIds.png"
    label = path.parents[3] / kind / split / city / name
    if not label.is_file():
        raise MissingDataError(
            "the official script of Cityscapes compares with files of label ids, and there is none for this image; "
            f"unpack the archive of {kind} once more, or set TEST.OFFICIAL_SCORES to False. "
            f"Received: image={image!r}, label={str(label)!r}"
        )
    return label


def _import_script() -> ModuleType:
    try:
        from cityscapesscripts.evaluation import evalPixelLevelSemanticLabeling
    except ImportError as error:
        raise ImportError(
            f"TEST.OFFICIAL_SCORES needs {_PACKAGE}, which is not installed. "
            "Install it with: pip install -e .[cityscapes]"
        ) from error
    return evalPixelLevelSemanticLabeling


def _categories(scores: Mapping[str, Any]) -> dict[str, float]:
    """Without the category of everything that is not scored."""
    return {name: iou for name, iou in scores["categoryScores"].items() if name != "void"}


def _or_none(score: float) -> float | None:
    return None if math.isnan(score) else float(score)
