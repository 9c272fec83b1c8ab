"""Properties of an image that its label map shows, and their rank correlation with the cost of the image.

An object is an 8-connected component of the pixels of one class other than the background. Labels of more than 2^19
pixels are subsampled with a stride, which halves each side of a label of 1024 × 2048 pixels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

__all__ = [
    "BACKGROUND",
    "IMAGE_PROPERTIES",
    "ImageProperties",
    "RankCorrelation",
    "image_properties",
    "property_correlations",
    "rank_correlation",
]

BACKGROUND = "background"  # name of the class whose pixels are not objects
IMAGE_PROPERTIES = {
    "objects": "number of objects",
    "object_scale_px": "object scale (pixels)",
    "foreground_ratio": "foreground (ratio of the pixels)",
    "classes": "number of classes",
}  # attribute of ImageProperties -> description
_MAX_PIXELS = 2**19


@dataclass(frozen=True)
class ImageProperties:
    """Properties of one image, of labelled pixels only.

    Attributes:
        objects: Number of objects.
        object_scale_px: Median over the objects of the square root of their area in pixels of the label; None without
            objects.
        foreground_ratio: Ratio of the labelled pixels that are not background; None without a class of that name.
        classes: Number of classes other than background.
    """

    objects: int
    object_scale_px: float | None
    foreground_ratio: float | None
    classes: int


@dataclass(frozen=True)
class RankCorrelation:
    """Spearman's rank correlation between the cost of an image and one of its `ImageProperties`.

    Attributes:
        value: Correlation in [-1, 1]; None with too few images, or if the costs or the property are constant.
        images: Number of images that have the property.
    """

    value: float | None
    images: int


def image_properties(
    label: npt.NDArray[np.integer], *, class_names: Sequence[str], ignore_value: int
) -> ImageProperties | None:
    """Compute the properties of an image; None without labelled pixels.

    Args:
        label: Label map (H, W), class ids or `ignore_value`.
        class_names: Names of the classes, by id.
        ignore_value: Label of pixels that are excluded.
    """
    stride = math.ceil(math.sqrt(label.size / _MAX_PIXELS))
    label = label[::stride, ::stride]
    pixels = np.bincount(label[label != ignore_value], minlength=len(class_names))
    if not pixels.any():
        return None
    background = class_names.index(BACKGROUND) if BACKGROUND in class_names else None
    classes = [index for index in np.flatnonzero(pixels).tolist() if index != background]
    areas = [area for index in classes for area in _component_areas(label == index)]
    return ImageProperties(
        objects=len(areas),
        object_scale_px=stride * float(np.median(np.sqrt(areas))) if areas else None,
        foreground_ratio=None if background is None else 1 - float(pixels[background] / pixels.sum()),
        classes=len(classes),
    )


def property_correlations(
    costs: Sequence[float], properties: Sequence[ImageProperties | None], *, min_images: int
) -> dict[str, RankCorrelation]:
    """Return the rank correlation of the costs of images with each property, by the names of `IMAGE_PROPERTIES`.

    Images without the property are excluded. The correlation is undefined if fewer than `min_images` images are left,
    or if their costs or the property are constant.
    """
    correlations = {}
    for name in IMAGE_PROPERTIES:
        pairs = [
            (cost, value)
            for cost, image in zip(costs, properties, strict=True)
            if image is not None and (value := getattr(image, name)) is not None
        ]
        value = rank_correlation(*zip(*pairs, strict=True)) if len(pairs) >= min_images else None
        correlations[name] = RankCorrelation(value, images=len(pairs))
    return correlations


def rank_correlation(one: Sequence[float], other: Sequence[float]) -> float | None:
    """Return Spearman's rank correlation of two series of equal length, at least 1, with average ranks of ties.

    In [-1, 1]; None if a series is constant.
    """
    if min(one) == max(one) or min(other) == max(other):
        return None
    return float(np.corrcoef(_average_ranks(one), _average_ranks(other))[0, 1])


def _average_ranks(values: Sequence[float]) -> npt.NDArray[np.float64]:
    _, index, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[index]


def _component_areas(mask: npt.NDArray[np.bool_]) -> list[int]:
    # A fifth of the time of connectedComponentsWithStats, which also computes boxes and centroids.
    left, top, width, height = cv2.boundingRect(mask.view(np.uint8))
    mask = mask[top : top + height, left : left + width]
    count, components = cv2.connectedComponents(mask.view(np.uint8), connectivity=8)
    return np.bincount(components[mask], minlength=count)[1:].tolist()
