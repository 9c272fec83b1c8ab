"""Segmentation metrics from a confusion matrix.

With t_c true pixels of class c, p_c pixels predicted as c, and h_c correctly predicted pixels of c:
IoU_c = h_c / (t_c + p_c - h_c) and accuracy_c = h_c / t_c. The means are defined in Long et al., "Fully Convolutional
Networks for Semantic Segmentation" (arXiv 1411.4038), section 5.

**Absent classes** have no pixel in the ground truth, and therefore neither IoU nor accuracy. The rule `exclude` omits
them from all means and lists them in `absent`; pixels predicted as such a class still count as errors of their true
classes. The rule `zero_if_predicted` gives an absent class that is predicted an IoU of 0, which lowers the mIoU, as in
the published evaluator and the official Cityscapes script. The rules agree if every class occurs, as in the validation
sets of Cityscapes and VOC.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dl_lib.config.choices import AbsentRule
from dl_lib.data.errors import DataError

__all__ = [
    "ClassScore",
    "ImageScores",
    "SegmentationMetrics",
    "class_counts",
    "image_scores",
    "segmentation_metrics",
]


@dataclass(frozen=True)
class ClassScore:
    """Scores of one class, as ratios in [0, 1]; None if the class is absent from the ground truth.

    Attributes:
        name: Class name.
        iou: Intersection over union; 0 where the rule `zero_if_predicted` applies.
        accuracy: Ratio of true pixels that are predicted correctly.
        boundary_iou: Boundary IoU; also None if not requested.
        true_pixels: Number of pixels in the ground truth.
        predicted_pixels: Number of labelled pixels predicted as this class.
    """

    name: str
    iou: float | None
    accuracy: float | None
    boundary_iou: float | None
    true_pixels: int
    predicted_pixels: int


@dataclass(frozen=True)
class SegmentationMetrics:
    """Scores of a dataset, as ratios in [0, 1].

    Attributes:
        mean_iou: mIoU, over the classes in the ground truth (with the rule `zero_if_predicted`, also over the
            predicted classes).
        frequency_weighted_iou: fwIoU, weighted by the number of ground truth pixels of each class.
        mean_accuracy: mACC, over the classes in the ground truth.
        pixel_accuracy: pACC, the ratio of labelled pixels that are predicted correctly.
        mean_boundary_iou: mBIoU, over the same classes as `mean_iou`; None if not requested.
        pixels: Number of labelled (not ignored) pixels.
        absent_rule: Treatment of absent classes.
        classes: Scores of each class, in the order of the dataset.
    """

    mean_iou: float
    frequency_weighted_iou: float
    mean_accuracy: float
    pixel_accuracy: float
    mean_boundary_iou: float | None
    pixels: int
    absent_rule: AbsentRule
    classes: tuple[ClassScore, ...]

    @property
    def absent(self) -> tuple[str, ...]:
        """Names of the classes without ground truth pixels."""
        return tuple(score.name for score in self.classes if not score.true_pixels)

    @property
    def predicted_absent(self) -> tuple[str, ...]:
        """Names of the absent classes that are predicted, for which the two rules differ."""
        return tuple(score.name for score in self.classes if not score.true_pixels and score.predicted_pixels)


@dataclass(frozen=True)
class ImageScores:
    """Scores of one image, as ratios in [0, 1].

    Attributes:
        mean_iou: Mean over the classes in the ground truth of this image.
        pixel_accuracy: Ratio of labelled pixels that are predicted correctly.
    """

    mean_iou: float
    pixel_accuracy: float


def segmentation_metrics(
    counts: Tensor | np.ndarray,
    *,
    class_names: Sequence[str],
    absent_rule: AbsentRule = "exclude",
    boundary: Tensor | np.ndarray | None = None,
) -> SegmentationMetrics:
    """Compute all scores in float64.

    Args:
        counts: Confusion matrix, integers (classes, classes), [true, predicted], a tensor or array; see
            `confusion.count_confusion`.
        class_names: Names of the classes.
        absent_rule: Treatment of absent classes.
        boundary: Boundary counts, integers (2, classes), see `boundary.count_boundary`; None if not requested.

    Raises:
        ValueError: If the shape of the matrix does not match the names.
        DataError: If there is no labelled pixel.
    """
    expected = (len(class_names), len(class_names))
    if tuple(counts.shape) != expected:
        raise ValueError(
            f"for {len(class_names)} class names, the confusion matrix must have shape {expected}. "
            f"Received: counts.shape={tuple(counts.shape)}"
        )
    hits, predicted, true = class_counts(counts).tolist()
    pixels = sum(true)
    if not pixels:
        raise DataError(
            "scores require labelled pixels, but all ground truth pixels are ignored; check labels and ignore value. "
            f"Received: counts.sum()={pixels}"
        )
    is_scored = [bool(t or (p and absent_rule == "zero_if_predicted")) for t, p in zip(true, predicted, strict=True)]
    unions = [t + p - h for h, t, p in zip(hits, true, predicted, strict=True)]
    iou = _ratios(hits, unions, where=is_scored)
    accuracy = _ratios(hits, true, where=[t > 0 for t in true])
    boundary_iou: list[float | None] = [None] * len(true)
    if boundary is not None:
        boundary_iou = _ratios(*boundary.tolist(), where=is_scored)
    weighted = [value * t for value, t in zip(iou, true, strict=True) if value is not None]
    return SegmentationMetrics(
        mean_iou=_mean(iou),
        frequency_weighted_iou=sum(weighted) / pixels,
        mean_accuracy=_mean(accuracy),
        pixel_accuracy=sum(hits) / pixels,
        mean_boundary_iou=None if boundary is None else _mean(boundary_iou),
        pixels=pixels,
        absent_rule=absent_rule,
        classes=tuple(map(ClassScore, class_names, iou, accuracy, boundary_iou, true, predicted)),
    )


def image_scores(class_counts: Tensor) -> ImageScores | None:
    """Compute the scores of a single image from its `class_counts`; None without labelled pixels."""
    hits, predicted, true = class_counts.tolist()
    if not any(true):
        return None
    unions = [t + p - h for h, t, p in zip(hits, true, predicted, strict=True)]
    iou = _ratios(hits, unions, where=[t > 0 for t in true])
    return ImageScores(mean_iou=_mean(iou), pixel_accuracy=sum(hits) / sum(true))


def class_counts(counts: Tensor | np.ndarray) -> Tensor:
    """Return the intersection, predicted and true pixels of each class, int64 (3, classes), of a confusion matrix."""
    counts = torch.as_tensor(counts)
    return torch.stack([counts.diagonal(), counts.sum(dim=0), counts.sum(dim=1)])


def _ratios(numerators: Sequence[int], denominators: Sequence[int], *, where: Sequence[bool]) -> list[float | None]:
    terms = zip(numerators, denominators, where, strict=True)
    return [numerator / denominator if defined else None for numerator, denominator, defined in terms]


def _mean(values: Sequence[float | None]) -> float:
    """Return the mean of the values that are not None."""
    defined = [value for value in values if value is not None]
    total = 0.0
    for value in defined:  # left to right as in the official scripts, for bitwise equal means
        total += value
    return total / len(defined)
