"""Tables of an evaluation, per_image.csv and confusion.csv: reading and checks."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from dl_lib.evaluation.report.checked_file import read_checked
from dl_lib.evaluation.report.results_file import MAX_NUMBER, MAX_SCORE

__all__ = ["ImageRow", "read_confusion", "read_images"]

_MAX_BYTES = 2**26
_MAX_PIXELS = 2**62  # of a confusion matrix, so that sums do not overflow

T = TypeVar("T")


@dataclass(frozen=True)
class ImageRow:
    """Row of per_image.csv.

    Attributes:
        image_id: Identifier, unique within the dataset, as in the file: see `IMAGE_COLUMNS`.
        mean_iou: mIoU of the image in [0, 1]; None without labelled pixels.
        real_gflops: Real cost, summed over all passes.
        seconds: Wall time of the model.
    """

    image_id: str
    mean_iou: float | None
    real_gflops: float
    seconds: float


def read_images(path: Path) -> tuple[ImageRow, ...]:
    """Read a file of `records.images_as_csv`.

    Raises:
        ConfigError: If it is missing, damaged, or a file of another kind.
    """
    return _read(path, _parse_images)


def read_confusion(path: Path) -> tuple[tuple[str, ...], npt.NDArray[np.int64]]:
    """Read a file of `records.confusion_as_csv`: class names, and pixels (classes, classes), [true, predicted].

    Raises:
        ConfigError: If it is missing, damaged, or a file of another kind.
    """
    return _read(path, _parse_confusion)


def _read(path: Path, parse: Callable[[io.StringIO], T]) -> T:
    return read_checked(
        path,
        lambda data: parse(io.StringIO(data.decode(), newline="")),
        max_bytes=_MAX_BYTES,
        contents="a table of an evaluation",
        advice="evaluate the run again",
    )


def _parse_images(file: io.StringIO) -> tuple[ImageRow, ...]:
    rows = tuple(
        ImageRow(
            image_id=row["image_id"],
            mean_iou=_number(row["mIoU"], high=MAX_SCORE) if row["mIoU"] else None,
            real_gflops=_number(row["real_gflops"]),
            seconds=_number(row["seconds"]),
        )
        for row in csv.DictReader(file, strict=True)
    )
    if len({row.image_id for row in rows}) < len(rows) or not rows:
        raise ValueError("expected at least one image, and a different name for each")
    return rows


def _parse_confusion(file: io.StringIO) -> tuple[tuple[str, ...], npt.NDArray[np.int64]]:
    rows = csv.reader(file, strict=True)
    _, *names = next(rows, [""])
    counts: list[list[int]] = []
    for row in rows:
        if [*row[:1]] != names[len(counts) : len(counts) + 1] or len(row) != len(names) + 1:
            raise ValueError(
                f"row {len(counts) + 1} must have the name of column {len(counts) + 1} and one count per class"
            )
        counts.append(list(map(int, row[1:])))
    if len(counts) < len(names) or not names:
        raise ValueError(f"{len(counts)} rows of {len(names)} classes")
    if min(map(min, counts)) < 0 or sum(map(sum, counts)) > _MAX_PIXELS:
        raise ValueError("a number of pixels is negative, or their sum is too large")
    return tuple(names), np.array(counts, np.int64)


def _number(text: str, *, high: float = MAX_NUMBER) -> float:
    value = float(text)
    if not 0 <= value <= high:  # True for NaN
        raise ValueError(f"expected a number in [0, {high:g}], received {text}")
    return value
