"""Boundary IoU (Cheng et al., arXiv 2103.16562, sections 4 and 5).

The boundary region of a class mask contains its pixels within a distance d of its contour, with d = 2 % of the image
diagonal. Boundary IoU is the intersection over union of the boundary regions of prediction and ground truth; for
semantic segmentation, both areas are summed over the dataset before the division.

The distance follows the authors' implementation (https://github.com/bowenc0221/boundary-iou-api): d erosions with a
3 x 3 square, i.e. the Chebyshev distance, and the image border is a contour. **Ignored pixels** are excluded from the
prediction and the ground truth: they are not counted, and their border is a contour of both masks.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import pad

from dl_lib.evaluation.scores.confusion import Pixels, as_tensor

__all__ = ["boundary_distance", "count_boundary"]

_RATIO_OF_DIAGONAL = 0.02
_NO_CLASS = -1  # ignored pixels and padding


def count_boundary(prediction: Pixels, *, label: Pixels, num_classes: int, ignore_value: int) -> Tensor:
    """Count the pixels in the intersection and the union of the boundary regions of every class, int64 (2, classes).

    Prediction and label are integers (H, W) as in `count_confusion`, tensors or arrays; the counts are on the
    prediction's device.
    """
    prediction, label = as_tensor(prediction), as_tensor(label)
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
    """Return the distance d in pixels, at least 1."""
    return max(1, round(_RATIO_OF_DIAGONAL * math.hypot(height, width)))


def _is_near_contour(classes: Tensor, *, distance: int) -> Tensor:
    """Return a bool mask (H, W) of the pixels within `distance` of the contour of their own class mask.

    These are the pixels whose surrounding square of side 2 * distance + 1 contains a second class. Comparing the
    minimum and maximum in the square processes all classes at once.
    """
    padded = pad(classes, (distance,) * 4, value=_NO_CLASS)
    lowest, highest = (
        _running(extreme, _running(extreme, padded, length=2 * distance + 1, dim=0), length=2 * distance + 1, dim=1)
        for extreme in (torch.minimum, torch.maximum)
    )
    return lowest != highest


def _running(extreme: Callable[[Tensor, Tensor], Tensor], values: Tensor, *, length: int, dim: int) -> Tensor:
    """Return the running minimum or maximum over `length` neighbours, with about 2 log2(length) operations."""
    covered = 1
    while covered < length:
        step = min(covered, length - covered)
        length_out = values.shape[dim] - step
        values = extreme(values.narrow(dim, 0, length_out), values.narrow(dim, step, length_out))
        covered += step
    return values
