"""Submission archives for benchmark servers, built from validated label PNGs.

Cityscapes (https://www.cityscapes-dataset.com/submit/): a zip of PNGs with label ids. PASCAL VOC
(http://host.robots.ox.ac.uk/pascal/VOC/voc2012/, development kit documentation): a tgz of PNGs with the VOC palette
in prescribed folders; comp6 is the competition that permits any training data.
"""

from __future__ import annotations

import re
import tarfile
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from dl_lib.data.catalog import Benchmark
from dl_lib.data.datasets.cityscapes_labels import TRAIN_ID_TO_ID
from dl_lib.data.datasets.voc import VOC_META, VOC_PALETTE
from dl_lib.data.errors import DataError
from dl_lib.data.listing import list_files
from dl_lib.evaluation.predictions.label_files import label_path
from dl_lib.evaluation.scores.result import EvaluationResult, ImageRecord
from dl_lib.utils.files import open_atomically
from dl_lib.utils.progress import progress_bar
from dl_lib.utils.run_files import SUBMISSION_STEM

__all__ = ["InvalidSubmissionError", "write_submission"]

_MAX_LISTED = 5  # problems per error message
_VOC_FOLDER = "results/VOC2012/Segmentation/comp6_test_cls"


class InvalidSubmissionError(DataError):
    """Predictions that the benchmark server would reject."""


@dataclass(frozen=True)
class _Format:
    """Submission format of a benchmark."""

    image_id: re.Pattern[str]
    ids: tuple[int, ...]  # permitted pixel values
    mode: str  # Pillow mode of the PNGs: L for grayscale, P for palette
    palette: tuple[int, ...]  # red, green, blue of the ids 0, 1, ... concatenated; empty without palette
    suffix: str  # of the archive


_FORMATS: Mapping[Benchmark, _Format] = {
    "cityscapes": _Format(re.compile(r"[a-z-]+_\d{6}_\d{6}"), TRAIN_ID_TO_ID, mode="L", palette=(), suffix=".zip"),
    "voc": _Format(
        re.compile(r"\d{4}_\d{6}"),
        tuple(range(VOC_META.num_classes)),
        mode="P",
        palette=tuple(channel for color in VOC_PALETTE for channel in color),
        suffix=".tgz",
    ),
}


def write_submission(result: EvaluationResult, *, benchmark: Benchmark, folder: Path, output_dir: Path) -> Path:
    """Validate all label PNGs in `folder` and write submission_<dataset>.zip (Cityscapes) or .tgz (VOC).

    Raises:
        InvalidSubmissionError: If the benchmark has no server, an image has no prediction, a file belongs to no
            image, or a file has an invalid name, size, format or pixel value. Nothing is written in that case.
    """
    if benchmark not in _FORMATS:
        raise InvalidSubmissionError(
            f"{result.dataset_name} has no evaluation server; those of {', '.join(_FORMATS)} are supported. Evaluate "
            "without a submission, or set the benchmark of the dataset. "
            f"Received: benchmark={benchmark!r}"
        )
    format_ = _FORMATS[benchmark]
    _check(result, folder=folder, format_=format_)
    path = output_dir / f"{SUBMISSION_STEM}_{result.dataset_name}{format_.suffix}"
    files = [label_path(folder, image.image_id) for image in result.images]
    with open_atomically(path) as file:
        if benchmark == "voc":
            with tarfile.open(fileobj=file, mode="w:gz") as tgz:
                for label in files:
                    tgz.add(label, arcname=f"{_VOC_FOLDER}/{label.name}")
        else:
            with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
                for label in files:
                    archive.write(label, arcname=label.name)
    return path


def _check(result: EvaluationResult, *, folder: Path, format_: _Format) -> None:
    problems = [f"sample {sample.index} has no prediction: {sample.reason}" for sample in result.skipped]
    known = {label_path(folder, image.image_id) for image in result.images}
    unknown = sorted({Path(path) for _, path in list_files(folder)} - known)
    problems += [f"{path} belongs to no image of the dataset; remove it" for path in unknown]
    with progress_bar(len(result.images), description="validating the submission", unit="file") as bar:
        for image in result.images:
            problems += _problems(image, path=label_path(folder, image.image_id), format_=format_)
            bar.update()
    if problems:
        listed = "".join(f"\n  {problem}" for problem in problems[:_MAX_LISTED])
        more = f"\n  ... and {len(problems) - _MAX_LISTED} more" if len(problems) > _MAX_LISTED else ""
        raise InvalidSubmissionError(
            f"invalid submission of the predictions on {result.dataset_name}:{listed}{more}\n"
            f"Received: {len(result.images)} predictions, {len(problems)} problems"
        )


def _problems(image: ImageRecord, *, path: Path, format_: _Format) -> Iterator[str]:
    """Yield the problems of one image's label PNG."""
    if not format_.image_id.fullmatch(image.image_id):
        yield f"{image.image_id!r} is not an image name of this benchmark"
    with Image.open(image.file_name) as original:
        size = original.size
    try:
        with Image.open(path, formats=["PNG"]) as label:
            pixels, mode, palette = np.array(label), label.mode, tuple(label.getpalette() or ())
    except FileNotFoundError:
        yield f"{path} is missing"
        return
    except (OSError, SyntaxError) as error:  # Pillow raises both for damaged files
        yield f"{path} is not a PNG, or damaged: {error}"
        return
    if pixels.shape[1::-1] != size:
        yield f"{path} has {pixels.shape[1]} x {pixels.shape[0]} pixels, but its image {size[0]} x {size[1]}"
    if (mode, palette) != (format_.mode, format_.palette):
        yield f"{path} must be a PNG of mode {format_.mode}{', with the palette of VOC' if format_.palette else ''}"
    invalid = np.setdiff1d(pixels, format_.ids).tolist()
    if invalid:
        yield f"{path} contains invalid ids: {invalid}"
