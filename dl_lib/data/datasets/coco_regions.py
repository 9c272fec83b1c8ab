"""COCO regions, polygons and run-length encoding, as masks (https://cocodataset.org/#format-data).

Run lengths are decoded here because pycocotools returns uninitialized memory for run lengths that do not cover the
image. Polygons are rasterized by pycocotools, whose rounding of corners is the reference.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from dl_lib.data.errors import InvalidSampleError

__all__ = ["Region", "check_region", "is_normalized", "rasterize_regions", "region_mask"]

_MIN_COORDINATES = 6  # three corners
_MAX_CHARACTERS = 12  # of a compressed number, so that it fits into 64 bits


@dataclass(frozen=True)
class Region:
    """Annotated region of an image.

    `segmentation` is a list of polygons [x, y, x, y, ...] in pixels, or a dict of run lengths with `size` and `counts`.
    """

    annotation_id: int | str
    value: int  # label
    is_crowd: bool
    segmentation: Any


def rasterize_regions(label: np.ndarray, regions: Iterable[Region]) -> None:
    """Rasterize regions into a label in place: crowds first, then from large to small so that small ones are visible.

    If two regions have the same area, the later one is on top.

    Raises:
        InvalidSampleError: If a region is invalid; the message names its annotation.
    """
    size = label.shape[0], label.shape[1]
    masks: list[tuple[Region, np.ndarray]] = []
    for region in regions:
        try:
            masks.append((region, region_mask(region.segmentation, size=size)))
        except InvalidSampleError as error:
            raise InvalidSampleError(f"annotation {region.annotation_id}: {error}") from None
    masks.sort(key=lambda pair: (not pair[0].is_crowd, -np.count_nonzero(pair[1])))
    for region, mask in masks:
        label[mask] = region.value


def check_region(segmentation: Any, *, size: tuple[int, int]) -> None:
    """Check a segmentation, see `Region`, without allocating its mask.

    Raises:
        InvalidSampleError: If the segmentation is invalid for an image of this size (height, width).
    """
    if isinstance(segmentation, Mapping):
        _run_lengths(segmentation, size=size)
    else:
        _polygons(segmentation, size=size)


def is_normalized(segmentation: Any) -> bool:
    """Return whether all coordinates of a checked segmentation with polygons are between 0 and 1."""
    return not isinstance(segmentation, Mapping) and all(
        0 <= coordinate <= 1 for polygon in segmentation for coordinate in polygon
    )


def region_mask(segmentation: Any, *, size: tuple[int, int]) -> np.ndarray:
    """Return the mask of a region, (H, W) bool, from its segmentation, see `Region`.

    Raises:
        InvalidSampleError: If the segmentation is invalid for the image.
    """
    height, width = size
    if not isinstance(segmentation, Mapping):
        polygons = _polygons(segmentation, size=size)
        merged = coco_mask.merge(coco_mask.frPyObjects([polygon.tolist() for polygon in polygons], height, width))
        segmentation = {"size": [height, width], "counts": merged["counts"].decode()}
    lengths = _run_lengths(segmentation, size=size)
    is_inside = np.arange(len(lengths)) % 2 == 1  # runs alternate, starting outside of the region
    return np.repeat(is_inside, lengths).reshape(width, height).T


def _run_lengths(segmentation: Mapping[str, Any], *, size: tuple[int, int]) -> np.ndarray:
    """Return run lengths, int64, that cover an image of fewer than 2^31 pixels exactly."""
    num_pixels = size[0] * size[1]
    given, counts = segmentation.get("size"), segmentation.get("counts")
    if given != list(size):
        raise InvalidSampleError(
            f"size of the run lengths must be {list(size)}, the size of the image. Received: size={given!r:.60}"
        )
    lengths = _decompressed(counts) if isinstance(counts, str) else _array(counts)
    # Each length is bounded first: a sum that overflows could equal the number of pixels.
    is_valid = lengths.ndim == 1 and lengths.dtype.kind == "i" and not ((lengths < 0) | (lengths > num_pixels)).any()
    if not is_valid or lengths.sum() != num_pixels:
        raise InvalidSampleError(
            f"counts must be non-negative integers with sum {num_pixels}, the number of pixels. "
            f"Received: counts={counts!r:.60}"
        )
    return lengths


def _decompressed(text: str) -> np.ndarray:
    """Decode compressed run lengths (cocoapi, common/maskApi.h); the result is empty if they are incomplete.

    Each number is a sequence of characters whose offset from "0" has 6 bits: 5 bits of the number, least significant
    first, and a continuation bit. The most significant bit of the last group is the sign. From the fourth number on,
    differences to the second-to-last number are stored.
    """
    invalid = re.search(r"[^0-o]", text)
    if invalid:
        raise InvalidSampleError(f"counts must consist of the characters '0' to 'o'. Received: {invalid.group()!r}")
    bits = np.frombuffer(text.encode(), np.uint8).astype(np.int64) - ord("0")
    ends = np.flatnonzero(bits < 32)  # last characters of the numbers
    sizes = np.diff(ends, prepend=-1)
    if not len(ends) or ends[-1] != len(bits) - 1 or sizes.max() > _MAX_CHARACTERS:
        return np.empty(0, np.int64)
    starts = ends + 1 - sizes
    shifts = 5 * (np.arange(len(bits)) - np.repeat(starts, sizes))
    lengths = np.add.reduceat((bits & 31) << shifts, starts) - ((bits[ends] >> 4) << (5 * sizes))
    for first in (1, 2):
        lengths[first::2] = np.cumsum(lengths[first::2])
    return lengths


def _polygons(segmentation: Any, *, size: tuple[int, int]) -> list[np.ndarray]:
    """Return the coordinates of polygons that pycocotools rasterizes with a bounded amount of time and memory."""
    if not isinstance(segmentation, list) or not segmentation:
        raise InvalidSampleError(
            "segmentation must be a list of polygons or a dict of run lengths; draw the outline of objects that only "
            f"have a box, or remove them. Received: segmentation={type(segmentation).__name__} {segmentation!r:.60}"
        )
    polygons = [_polygon(polygon, size=size) for polygon in segmentation]
    max_side, num_corners = max(size), sum(map(len, polygons)) // 2
    max_outline = 4 * size[0] * size[1] + 100 * max_side  # pycocotools allocates memory for each pixel of the outline
    if num_corners * 3 * max_side > max_outline:  # else no outline can be too long
        outline = sum(map(_outline_pixels, polygons))
        if outline > max_outline:
            raise InvalidSampleError(
                f"the outline of the polygons is longer than {max_outline} pixels, four times the number of pixels of "
                f"the image; fix their corners. Received: {outline:.0f} pixels, {num_corners} corners"
            )
    return polygons


def _polygon(polygon: Any, *, size: tuple[int, int]) -> np.ndarray:
    coordinates, max_side = _array(polygon), max(size)
    is_numeric = coordinates.ndim == 1 and coordinates.dtype.kind in "iuf"
    if not is_numeric or len(coordinates) < _MIN_COORDINATES or len(coordinates) % 2:
        raise InvalidSampleError(
            "each polygon of the list must be a list [x, y, x, y, ...] of at least three corners. "
            f"Received: polygon={polygon!r:.60}"
        )
    if not (coordinates.min() >= -max_side and coordinates.max() <= 2 * max_side):  # also if one is not a number
        raise InvalidSampleError(
            f"a polygon must lie within its image, {size[0]} x {size[1]} pixels (height x width), or "
            f"extend only little beyond it; fix its coordinates. Received: polygon={polygon!r:.60}"
        )
    return coordinates


def _outline_pixels(polygon: np.ndarray) -> float:
    corners = polygon.reshape(-1, 2).astype(np.float64)
    return float(np.abs(corners - np.roll(corners, 1, axis=0)).max(axis=1).sum())


def _array(values: Any) -> np.ndarray:
    """Convert values from a file; the result is empty if they have no common shape."""
    try:
        return np.array(values)
    except ValueError:
        return np.empty(0, np.int64)
