"""Conversion of the raw ids or colors of label files to class ids, by lookup tables."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import cv2
import numpy as np

from dl_lib.data.errors import UnknownLabelError
from dl_lib.data.label_decoding import smallest_dtype
from dl_lib.data.reading import read_color_label, read_label
from dl_lib.utils.names import joined

__all__ = ["ColorReader", "IdReader", "count_colors", "count_ids"]

_MAX_LISTED = 10  # ids or colors in an error message
_BLOCK_ROWS = 32
_LUT_BYTES = 2 if int(cv2.__version__.partition(".")[0]) >= 5 else 1  # largest index that cv2.LUT supports


@dataclass(frozen=True)
class IdReader:
    """Label reader that converts raw ids; any other id is an error.

    Args:
        ranges: First and last raw id of each range and its label, ascending and disjoint.
        setting: Key that lists the ids, for messages.
    """

    ranges: tuple[tuple[int, int, int], ...]
    setting: str

    def __call__(self, path: str) -> np.ndarray:
        """Read the class ids of a label file, (H, W).

        Raises:
            DataError: If the file cannot be read.
            UnknownLabelError: If it contains an id outside of the ranges.
        """
        return self.convert(read_label(path), path=path)

    def convert(self, raw: np.ndarray, *, path: str) -> np.ndarray:
        """Convert the content of a label file, an (H, W) array of any integer type.

        Raises:
            UnknownLabelError: If it contains an id outside of the ranges.
        """
        label = self._labels(raw)
        if any((label[rows] == self._unknown).any() for rows in _row_blocks(label)):
            ids = count_ids(raw[label == self._unknown])
            raise UnknownLabelError(
                f"{path} contains ids that {self.setting} does not list; list each id with a class or ignore in "
                f"LABEL_MAP. Received: {_counted(ids, total=raw.size)}"
            )
        return label

    def _labels(self, raw: np.ndarray) -> np.ndarray:
        """Return the label of each raw id, and `_unknown` for other ids."""
        if raw.dtype.itemsize > 2:
            return self._search(raw)
        table = _table(self, raw.dtype)
        bits = raw.view(f"u{raw.itemsize}")
        return np.asarray(cv2.LUT(bits, table)) if raw.itemsize <= _LUT_BYTES else table.take(bits)

    @cached_property
    def _unknown(self) -> int:
        """Label that does not occur in the ranges."""
        return _unused(label for _, _, label in self.ranges)

    def _search(self, raw: np.ndarray) -> np.ndarray:
        first, last, label = np.array(self.ranges, np.int64).T
        index = np.maximum(np.searchsorted(first, raw, side="right") - 1, 0)
        is_listed = (first[index] <= raw) & (raw <= last[index])
        dtype = smallest_dtype(min(label), max(*label, self._unknown))
        return np.where(is_listed, label[index], self._unknown).astype(dtype)


@dataclass(frozen=True)
class ColorReader:
    """Label reader that converts colors; any other color is an error.

    Args:
        colors: (red, green, blue) and its label, without repeated colors.
    """

    colors: tuple[tuple[tuple[int, int, int], int], ...]

    def __call__(self, path: str) -> np.ndarray:
        """Read the class ids of a label file with colors, (H, W).

        Raises:
            DataError: If the file cannot be read.
            UnknownLabelError: If it contains another color.
        """
        return self.convert(read_color_label(path), path=path)

    def convert(self, pixels: np.ndarray, *, path: str) -> np.ndarray:
        """Convert the content of a label file, (H, W, 3) uint8 RGB.

        Raises:
            UnknownLabelError: If it contains another color.
        """
        positions, labels = _color_tables(self)
        label = np.empty(pixels.shape[:2], labels.dtype)
        for rows in _row_blocks(label):
            position = positions.take(_packed(pixels[rows]))
            if not position.all():
                raise self._unlisted(pixels, path)
            label[rows] = labels.take(position)
        return label

    def _unlisted(self, pixels: np.ndarray, path: str) -> UnknownLabelError:
        listed = {color for color, _ in self.colors}
        unlisted = {color: count for color, count in count_colors(pixels).items() if color not in listed}
        return UnknownLabelError(
            f"{path} contains colors that COLOR_MAP does not list; list each color with a class or ignore. Many "
            "similar colors mean that the file was resized with interpolation or was once a JPEG: create it again. "
            f"Received: {_counted(unlisted, total=pixels[..., 0].size)}"
        )


def count_ids(label: np.ndarray) -> Counter[int]:
    """Return the number of pixels of each id of an integer array."""
    ids, counts = np.unique(label, return_counts=True)
    return Counter(dict(zip(ids.tolist(), counts.tolist(), strict=True)))


def count_colors(pixels: np.ndarray) -> Counter[tuple[int, int, int]]:
    """Return the number of pixels of each color of an (H, W, 3) uint8 array."""
    packed = count_ids(_packed(pixels))
    return Counter({(code & 255, code >> 8 & 255, code >> 16): count for code, count in packed.items()})


def _row_blocks(label: np.ndarray) -> Iterator[slice]:
    """Yield slices of rows whose temporary arrays are small: allocating large ones takes longer than the conversion."""
    for start in range(0, label.shape[0], _BLOCK_ROWS):
        yield slice(start, start + _BLOCK_ROWS)


def _packed(pixels: np.ndarray) -> np.ndarray:
    """Return red + 256 green + 65536 blue, (H, W) uint32."""
    opaque = cv2.cvtColor(np.ascontiguousarray(pixels), cv2.COLOR_RGB2RGBA)
    return np.asarray(opaque).view("<u4")[..., 0] & 0xFFFFFF


@lru_cache(maxsize=16)
def _table(reader: IdReader, dtype: np.dtype) -> np.ndarray:
    """Return the label of each bit pattern of an integer type with up to 16 bits."""
    patterns = np.arange(2 ** (8 * dtype.itemsize), dtype=f"u{dtype.itemsize}")
    return reader._search(patterns.view(dtype))


@lru_cache(maxsize=16)
def _color_tables(reader: ColorReader) -> tuple[np.ndarray, np.ndarray]:
    """Return a table from packed color to position in `colors`, counted from 1, and one from position to label."""
    labels = [label for _, label in reader.colors]
    positions = np.zeros(2**24, smallest_dtype(0, len(labels)))  # memory is only allocated for pages that are written
    colors = np.array([color for color, _ in reader.colors], np.uint8).reshape(1, -1, 3)
    positions[_packed(colors)[0]] = np.arange(1, len(labels) + 1)
    return positions, np.array([labels[0], *labels], smallest_dtype(min(labels), max(labels)))


def _unused(labels: Iterable[int]) -> int:
    used = set(labels)
    return next(value for value in range(len(used) + 1) if value not in used)


def _counted(pixels: Mapping[Any, int], *, total: int) -> str:
    ordered = sorted(pixels.items(), key=lambda item: -item[1])
    return f"{joined([f'{value} in {count}' for value, count in ordered], limit=_MAX_LISTED)} of {total} pixels"
