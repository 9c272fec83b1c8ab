"""COCO regions, polygons and run-length encoding, as masks (https://cocodataset.org/#format-data).

Run lengths are decoded here because pycocotools returns uninitialized memory for run lengths that do not cover the
image. Polygons are rasterized by pycocotools, whose rounding of corners is the reference.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from dl_lib.data.errors import InvalidSampleError

__all__ = ["Region", "rasterize_regions", "region_mask"]

_MIN_COORDINATES = 6  # three corners


@dataclass(frozen=True)
class Region:
    """Annotated region of an image.

    `segmentation` is a list of polygons [x, y, x, y, ...] in pixels, or a dict of run lengths with `size` and `counts`.
    """

    annotation_id: int
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


def region_mask(segmentation: Any, *, size: tuple[int, int]) -> np.ndarray:
    """Return the mask of a region, (H, W) bool, from its segmentation, see `Region`.

    Raises:
        InvalidSampleError: If the segmentation is invalid for the image.
    """
    if isinstance(segmentation, Mapping):
        return _run_lengths_mask(segmentation, size=size)
    if isinstance(segmentation, list) and segmentation:
        return _polygons_mask(segmentation, size=size)
    raise InvalidSampleError(
        "segmentation must be a list of polygons or a dict of run lengths. "
        f"Received: segmentation={type(segmentation).__name__} {segmentation!r:.60}"
    )


def _run_lengths_mask(segmentation: Mapping[str, Any], *, size: tuple[int, int]) -> np.ndarray:
    height, width = size
    given, counts = segmentation.get("size"), segmentation.get("counts")
    if given != [height, width]:
        raise InvalidSampleError(
            f"size of the run lengths must be [{height}, {width}], the size of the image. Received: size={given!r}"
        )
    lengths = np.array(_decompressed(counts) if isinstance(counts, str) else counts)
    if lengths.ndim != 1 or lengths.dtype.kind != "i" or (lengths < 0).any() or lengths.sum() != height * width:
        raise InvalidSampleError(
            f"counts must be non-negative integers with sum {height * width}, the number of pixels. "
            f"Received: counts={counts!r:.60}"
        )
    is_inside = np.arange(len(lengths)) % 2 == 1  # runs alternate, starting outside of the region
    return np.repeat(is_inside, lengths).reshape(width, height).T


def _decompressed(text: str) -> list[int]:
    """Decode compressed run lengths (cocoapi, common/maskApi.h).

    Each number is a sequence of characters whose offset from "0" has 6 bits: 5 bits of the number, least significant
    first, and a continuation bit. The most significant bit of the last group is the sign. From the fourth number on,
    differences to the second-to-last number are stored.
    """
    lengths: list[int] = []
    number = shift = 0
    for character in text:
        bits = ord(character) - ord("0")
        if not 0 <= bits < 64:
            raise InvalidSampleError(f"counts must consist of the characters '0' to 'o'. Received: {character!r}")
        number |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            number -= (bits >> 4 & 1) << shift
            lengths.append(number + (lengths[-2] if len(lengths) > 2 else 0))
            number = shift = 0
    return lengths


def _polygons_mask(polygons: Sequence[Any], *, size: tuple[int, int]) -> np.ndarray:
    height, width = size
    max_side = max(size)  # pycocotools iterates over the pixels of each edge, so coordinates need a bound
    for polygon in polygons:
        try:
            coordinates = np.array(polygon, np.float64)
        except (TypeError, ValueError):
            coordinates = np.empty(0)
        if coordinates.ndim != 1 or len(coordinates) < _MIN_COORDINATES or len(coordinates) % 2:
            raise InvalidSampleError(
                "a polygon must be a list [x, y, x, y, ...] of at least three corners. "
                f"Received: polygon={polygon!r:.60}"
            )
        if not ((coordinates >= -max_side) & (coordinates <= 2 * max_side)).all():
            raise InvalidSampleError(
                f"a polygon must lie within its image, {height} x {width} pixels (height x width), or "
                f"extend only little beyond it; fix its coordinates. Received: polygon={polygon!r:.60}"
            )
    merged = coco_mask.merge(coco_mask.frPyObjects(polygons, height, width))
    return _run_lengths_mask({"size": [height, width], "counts": merged["counts"].decode()}, size=size)
