"""Boundary IoU: how well the contours of the classes agree. Cheng et al., arXiv 2103.16562, sections 4 and 5.

For the mask of a class in one image, the boundary region holds those of its pixels that lie within a distance d of its
contour, with d = 2 % of the image's diagonal. Boundary IoU is intersection over union of the regions of prediction and
ground truth; for semantic segmentation, both are summed over the data set before they are divided.

Distance is that of the authors' implementation (https://github.com/bowenc0221/boundary-iou-api): d erosions with a
3 x 3 square, so the longer one of the two axes counts, and the image's frame is a contour. **Ignored pixels** belong to
no class in the prediction either: none of them is counted, and where one begins, both masks have the same contour.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import pad

__all__ = ["boundary_distance", "count_boundary"]

_SHARE_OF_DIAGONAL = 0.02
_NO_CLASS = -1  # ignored pixels, and what lies outside the image


def count_boundary(prediction: Tensor, *, label: Tensor, num_classes: int, ignore_value: int) -> Tensor:
    """Counts the pixels in the intersection and in the union of the boundary regions of every class.

    Args:
        prediction: integers (H, W) in [0, num_classes); its device does the work.
        label: integers (H, W), each a class or `ignore_value`.
        num_classes: how many classes there are.
        ignore_value: label of the pixels that are left out.

    Returns:
        int64 (2, num_classes): intersections, unions.
    """
    distance = boundary_distance(*label.shape)
    label = label.to(prediction.device)
    is_ignored = label == ignore_value
    true, predicted = (values.int().masked_fill(is_ignored, _NO_CLASS) for values in (label, prediction))
    near_true, near_predicted = (_is_near_contour(classes, distance=distance) for classes in (true, predicted))

    def count(classes: Tensor, region: Tensor) -> Tensor:
        return torch.bincount(classes[region & ~is_ignored], minlength=num_classes)

    intersections = count(true, near_true & near_predicted & (true == predicted))
    unions = count(true, near_true) + count(predicted, near_predicted) - intersections
    return torch.stack([intersections, unions])


def boundary_distance(height: int, width: int) -> int:
    """The distance d in pixels, at least 1."""
    return max(1, round(_SHARE_OF_DIAGONAL * math.hypot(height, width)))


def _is_near_contour(classes: Tensor, *, distance: int) -> Tensor:
    """Bool (H, W): whether a pixel lies within `distance` of the contour of its class's mask, whichever that is.

    It does if the square of side 2 * distance + 1 round it holds a second class. So the classes need not be looked at
    one by one: the smallest and the largest in the square differ.
    """
    padded = pad(classes, (distance,) * 4, value=_NO_CLASS)
    lowest, highest = (
        _running(extreme, _running(extreme, padded, length=2 * distance + 1, dim=0), length=2 * distance + 1, dim=1)
        for extreme in (torch.minimum, torch.maximum)
    )
    return lowest != highest


def _running(extreme: Callable[[Tensor, Tensor], Tensor], values: Tensor, *, length: int, dim: int) -> Tensor:
    """The extreme of every `length` neighbours along a dimension; about 2 log2(length) operations for each."""
    covered = 1
    while covered < length:
        step = min(covered, length - covered)
        kept = values.shape[dim] - step
        values = extreme(values.narrow(dim, 0, kept), values.narrow(dim, step, kept))
        covered += step
    return values
