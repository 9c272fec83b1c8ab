"""Regions in COCO's format, polygons and run lengths, as masks; https://cocodataset.org/#format-data.

Run lengths are unpacked here and not by pycocotools, which returns whatever the memory holds where they do not cover
the image. Polygons are its business: how a corner is rounded to pixels is its convention, and tests compare.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from dl_lib.data.errors import InvalidSampleError

__all__ = ["Region", "rasterize_regions", "region_mask"]

_MIN_POLYGON = 6  # numbers: three corners


@dataclass(frozen=True)
class Region:
    """A part of an image that an annotation is about.

    Args:
        annotation_id: as in the file.
        value: its label.
        is_crowd: whether it is a crowd that nobody took apart.
        segmentation: polygons (a list of [x, y, x, y, ...] in pixels) or run lengths (a dict of size and counts).
    """

    annotation_id: int
    value: int
    is_crowd: bool
    segmentation: Any


def rasterize_regions(label: np.ndarray, regions: Iterable[Region]) -> None:
    """Paint regions into a label, in place: crowds first, then from large to small, so that small ones stay visible.

    Args:
        label: (H, W) integers.
        regions: of this image; of two with the same number of pixels, the later one comes to lie above.

    Raises:
        InvalidSampleError: if a region cannot be drawn; names its annotation.
    """
    size = label.shape[0], label.shape[1]
    drawn: list[tuple[Region, np.ndarray]] = []
    for region in regions:
        try:
            drawn.append((region, region_mask(region.segmentation, size=size)))
        except InvalidSampleError as error:
            raise InvalidSampleError(f"annotation {region.annotation_id}: {error}") from None
    drawn.sort(key=lambda pair: (not pair[0].is_crowd, -np.count_nonzero(pair[1])))
    for region, mask in drawn:
        label[mask] = region.value


def region_mask(segmentation: Any, *, size: tuple[int, int]) -> np.ndarray:
    """The pixels of a region, (H, W) bool.

    Args:
        segmentation: as in Region.
        size: (height, width) of the image.

    Raises:
        InvalidSampleError: if it is no region of such an image.
    """
    if isinstance(segmentation, Mapping):
        return _run_lengths_mask(segmentation, size=size)
    if isinstance(segmentation, list) and segmentation:
        return _polygons_mask(segmentation, size=size)
    raise InvalidSampleError(
        f"expected polygons or run lengths. Received: segmentation={type(segmentation).__name__} {segmentation!r:.60}"
    )


def _run_lengths_mask(segmentation: Mapping[str, Any], *, size: tuple[int, int]) -> np.ndarray:
    height, width = size
    given, counts = segmentation.get("size"), segmentation.get("counts")
    if given != [height, width]:
        raise InvalidSampleError(
            f"run lengths must be of an image of {height} x {width} pixels (height x width). Received: size={given!r}"
        )
    lengths = np.array(_decompressed(counts) if isinstance(counts, str) else counts)
    if lengths.ndim != 1 or lengths.dtype.kind != "i" or (lengths < 0).any() or lengths.sum() != height * width:
        raise InvalidSampleError(
            f"run lengths must be whole numbers that add up to {height * width} pixels. Received: counts={counts!r:.60}"
        )
    is_inside = np.arange(len(lengths)) % 2 == 1  # runs alternate, and the first one lies outside
    return np.repeat(is_inside, lengths).reshape(width, height).T


def _decompressed(text: str) -> list[int]:
    """Run lengths from COCO's text form.

    Each number is a sequence of characters with 6 bits above "0": 5 bits of the number, lowest first, and one that says
    whether more follow. The highest bit of the last one is the sign. From the fourth number on it is the difference to
    the last but one. (cocoapi, common/maskApi.h)
    """
    lengths: list[int] = []
    number = place = 0
    for character in text:
        bits = ord(character) - ord("0")
        if not 0 <= bits < 64:
            raise InvalidSampleError(f"run lengths as text hold the characters 0..o. Received: {character!r}")
        number |= (bits & 31) << place
        place += 5
        if not bits & 32:
            number -= (bits >> 4 & 1) << place
            lengths.append(number + (lengths[-2] if len(lengths) > 2 else 0))
            number = place = 0
    return lengths


def _polygons_mask(polygons: Sequence[Any], *, size: tuple[int, int]) -> np.ndarray:
    height, width = size
    reach = max(size)  # pycocotools walks along each edge, for ever if it is long enough
    for polygon in polygons:
        try:
            numbers = np.array(polygon, np.float64)
        except (TypeError, ValueError):
            numbers = np.empty(0)
        if numbers.ndim != 1 or len(numbers) < _MIN_POLYGON or len(numbers) % 2:
            raise InvalidSampleError(
                f"a polygon is a list x, y, x, y, ... of three corners or more. Received: {polygon!r:.60}"
            )
        if not ((numbers >= -reach) & (numbers <= 2 * reach)).all():
            raise InvalidSampleError(
                f"a polygon lies far outside its image of {height} x {width} pixels (height x width). "
                f"Received: {polygon!r:.60}"
            )
    merged = coco_mask.merge(coco_mask.frPyObjects(polygons, height, width))
    return _run_lengths_mask({"size": [height, width], "counts": merged["counts"].decode()}, size=size)
