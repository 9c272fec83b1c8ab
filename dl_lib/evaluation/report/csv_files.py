"""Tables of an evaluation, per_image.csv and confusion.csv: reading and checks."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from dl_lib.evaluation.report.checked_file import read_checked

__all__ = ["ImageRow", "read_confusion", "read_images"]

_MAX_BYTES = 2**28
_MAX_COUNT = 2**62  # pixels of a cell of the confusion matrix

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
        ConfigError: If it is missing, damaged, or another file.
    """
    return _read(path, _parse_images)


def read_confusion(path: Path) -> tuple[tuple[str, ...], npt.NDArray[np.int64]]:
    """Read a file of `records.confusion_as_csv`: class names, and pixels (classes, classes), [true, predicted].

    Raises:
        ConfigError: If it is missing, damaged, or another file.
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
            mean_iou=_number(row["mIoU"]) if row["mIoU"] else None,
            real_gflops=_number(row["real_gflops"]),
            seconds=_number(row["seconds"]),
        )
        for row in csv.DictReader(file, strict=True)
    )
    if len({row.image_id for row in rows}) < len(rows) or not rows:
        raise ValueError("no image, or two of one name")
    return rows


def _parse_confusion(file: io.StringIO) -> tuple[tuple[str, ...], npt.NDArray[np.int64]]:
    header, *rows = csv.reader(file, strict=True)
    names = tuple(header[1:])
    counts = [[int(cell) for cell in row[1:]] for row in rows]
    if [row[0] for row in rows] != [*names] or {len(row) for row in counts} != {len(names)}:
        raise ValueError("rows and columns of different classes")
    if not all(0 <= count <= _MAX_COUNT for row in counts for count in row):
        raise ValueError("a number of pixels is negative or too large")
    return names, np.array(counts, np.int64)


def _number(text: str) -> float:
    value = float(text)
    if not (math.isfinite(value) and value >= 0):
        raise ValueError(f"expected a number of at least 0, received {text}")
    return value
