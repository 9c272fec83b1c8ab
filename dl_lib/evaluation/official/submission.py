"""The archive that a benchmark's server takes, made of label PNGs after each of them was looked at.

Cityscapes (https://www.cityscapes-dataset.com/submit/): PNGs of label ids, in a zip. PASCAL VOC
(http://host.robots.ox.ac.uk/pascal/VOC/voc2012/, documentation of the development kit): PNGs with VOC's palette, in a
tgz and folders of given names; comp6 is the competition in which any training data may be used.
"""

from __future__ import annotations

import re
import tarfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from dl_lib.data.catalog import Benchmark
from dl_lib.data.datasets.cityscapes_labels import TRAIN_ID_TO_ID
from dl_lib.data.datasets.voc import VOC_META, VOC_PALETTE
from dl_lib.data.errors import DataError
from dl_lib.evaluation.predictions.label_files import label_path
from dl_lib.evaluation.scores.result import EvaluationResult, ImageRecord
from dl_lib.utils.files import open_atomically
from dl_lib.utils.progress import progress_bar

__all__ = ["InvalidSubmissionError", "write_submission"]

_SHOWN = 5  # problems that an error gives
_VOC_FOLDER = "results/VOC2012/Segmentation/comp6_test_cls"


class InvalidSubmissionError(DataError):
    """Predictions that the benchmark's server would refuse."""


@dataclass(frozen=True)
class _Form:
    """What a benchmark wants.

    Attributes:
        names: of its images.
        ids: that may occur.
        mode: of the PNGs, as Pillow has it: L for grey, P for a palette.
        palette: red, green, blue of the ids 0, 1, ... one after the other; empty without a palette.
        ending: of the archive.
    """

    names: re.Pattern[str]
    ids: tuple[int, ...]
    mode: str
    palette: tuple[int, ...]
    ending: str


_FORMS: Mapping[Benchmark, _Form] = {
    "cityscapes": _Form(re.compile(r"[a-z-]+_\d{6}_\d{6}"), TRAIN_ID_TO_ID, mode="L", palette=(), ending=".zip"),
    "voc": _Form(
        re.compile(r"\d{4}_\d{6}"),
        tuple(range(VOC_META.num_classes)),
        mode="P",
        palette=tuple(channel for color in VOC_PALETTE for channel in color),
        ending=".tgz",
    ),
}


def write_submission(result: EvaluationResult, *, benchmark: Benchmark, folder: Path, output_dir: Path) -> Path:
    """Checks the label PNGs of all images and writes submission_<data set>.zip (Cityscapes) or .tgz (VOC).

    Args:
        result: of the whole data set.
        benchmark: that the data set belongs to.
        folder: where the PNGs are.
        output_dir: for the archive.

    Returns:
        The archive.

    Raises:
        InvalidSubmissionError: if the benchmark has no server, an image of the data set has no prediction, a file is
            there that belongs to none, or one has a wrong name, size, form or ids; then nothing is written.
    """
    if benchmark not in _FORMS:
        raise InvalidSubmissionError(
            f"no server takes predictions on {result.dataset_name}, only on data of {', '.join(_FORMS)}. "
            f"Received: benchmark={benchmark!r}"
        )
    form = _FORMS[benchmark]
    _check(result, folder=folder, form=form)
    path = output_dir / f"submission_{result.dataset_name}{form.ending}"
    files = [label_path(folder, image.image_id) for image in result.images]
    if benchmark == "voc":
        _write_tgz(path, files)
    else:
        _write_zip(path, files)
    return path


def _check(result: EvaluationResult, *, folder: Path, form: _Form) -> None:
    problems = [f"sample {sample.index} has no prediction: {sample.reason}" for sample in result.skipped]
    problems += [f"{path} belongs to no image of the data set; take it away" for path in _unknown(result, folder)]
    with progress_bar(len(result.images), description="checking the submission", unit="file") as bar:
        for image in result.images:
            problems += _problems(image, path=label_path(folder, image.image_id), form=form)
            bar.update()
    if problems:
        listed = "".join(f"\n  {problem}" for problem in problems[:_SHOWN])
        more = f"\n  ... and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        raise InvalidSubmissionError(
            f"the predictions on {result.dataset_name} cannot be submitted:{listed}{more}\n"
            f"Received: {len(result.images)} predictions, {len(problems)} problems"
        )


def _unknown(result: EvaluationResult, folder: Path) -> list[Path]:
    known = {label_path(folder, image.image_id) for image in result.images}
    return sorted(path for path in folder.rglob("*") if path.is_file() and path not in known)


def _problems(image: ImageRecord, *, path: Path, form: _Form) -> Iterator[str]:
    """What is wrong with the file of one image."""
    if not form.names.fullmatch(image.image_id):
        yield f"{image.image_id!r} is no name of an image of this benchmark"
    with Image.open(image.file_name) as original:
        size = original.size
    try:
        with Image.open(path, formats=["PNG"]) as picture:
            pixels, mode, palette = np.array(picture), picture.mode, tuple(picture.getpalette() or ())
    except FileNotFoundError:
        yield f"{path} is missing"
        return
    except (OSError, SyntaxError) as error:  # Pillow has both for what is damaged
        yield f"{path} is no PNG, or damaged: {error}"
        return
    if pixels.shape[1::-1] != size:
        yield f"{path} has {pixels.shape[1]} x {pixels.shape[0]} pixels, and its image {size[0]} x {size[1]}"
    if (mode, palette) != (form.mode, form.palette):
        yield f"{path} must be a PNG of mode {form.mode}{', with the palette of VOC' if form.palette else ''}"
    wrong = np.setdiff1d(pixels, form.ids).tolist()
    if wrong:
        yield f"{path} holds ids that are not allowed: {wrong}"


def _write_zip(path: Path, files: Sequence[Path]) -> None:
    with open_atomically(path) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for label in files:
            archive.write(label, arcname=label.name)


def _write_tgz(path: Path, files: Sequence[Path]) -> None:
    with open_atomically(path) as file, tarfile.open(fileobj=file, mode="w:gz") as archive:
        for label in files:
            archive.add(label, arcname=f"{_VOC_FOLDER}/{label.name}")
