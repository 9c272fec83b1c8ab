"""From counted pixels to scores: pure functions.

With t_c the pixels of class c, p_c the pixels (of any class) taken for c, and h_c those of c taken for c:
IoU_c = h_c / (t_c + p_c - h_c) and accuracy_c = h_c / t_c. Definitions of the means: Long et al., "Fully
Convolutional Networks for Semantic Segmentation" (arXiv 1411.4038), section 5.

**Absent classes.** A class without a single pixel in the ground truth has neither IoU nor accuracy. By the rule
`exclude` it is in none of the means, and named in `absent`; pixels taken for it still count against the classes that
they belong to. By `zero_if_predicted` one that is predicted all the same has IoU 0, which lowers the mIoU: so does the
published evaluator, and so do the official scripts of Cityscapes. The rules agree where every class occurs, as in the
validation sets of Cityscapes and VOC.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from dl_lib.config.choices import AbsentRule
from dl_lib.data.errors import DataError

__all__ = [
    "ClassScore",
    "ImageScores",
    "SegmentationMetrics",
    "image_scores",
    "segmentation_metrics",
]


@dataclass(frozen=True)
class ClassScore:
    """One class; shares are in [0, 1], None where the ground truth does not hold the class.

    Attributes:
        name: of the class.
        iou: 0 by the rule `zero_if_predicted`, where it applies.
        accuracy: share of its pixels that were taken for it.
        boundary_iou: as `iou`, near the contours; None also where that is not measured.
        true_pixels: in the ground truth.
        predicted_pixels: taken for it, of the labelled ones.
    """

    name: str
    iou: float | None
    accuracy: float | None
    boundary_iou: float | None
    true_pixels: int
    predicted_pixels: int


@dataclass(frozen=True)
class SegmentationMetrics:
    """Scores of a data set, as shares in [0, 1].

    Attributes:
        mean_iou: mIoU, over the classes that are present in the ground truth (and, by the rule `zero_if_predicted`,
            over those that are predicted).
        frequency_weighted_iou: fwIoU, weighted by the pixels that each class has in the ground truth.
        mean_accuracy: mACC, over the classes that are present in the ground truth.
        pixel_accuracy: pACC, share of the labelled pixels that are right.
        mean_boundary_iou: over the same classes as `mean_iou`; None where it is not measured.
        pixels: labelled pixels, that is without the ignored ones.
        absent_rule: what is done about absent classes.
        classes: the scores of each class, in the order of the data set.
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
        """Names of the classes that the ground truth does not hold."""
        return tuple(score.name for score in self.classes if not score.true_pixels)

    @property
    def predicted_absent(self) -> tuple[str, ...]:
        """Those of the absent classes that were predicted all the same: the two rules differ by them."""
        return tuple(score.name for score in self.classes if not score.true_pixels and score.predicted_pixels)


@dataclass(frozen=True)
class ImageScores:
    """Scores of one image, as shares in [0, 1].

    Attributes:
        mean_iou: over the classes that are present in the ground truth of this image.
        pixel_accuracy: share of its labelled pixels that are right.
    """

    mean_iou: float
    pixel_accuracy: float


def segmentation_metrics(
    counts: Tensor,
    *,
    class_names: Sequence[str],
    absent_rule: AbsentRule = "exclude",
    boundary: Tensor | None = None,
) -> SegmentationMetrics:
    """Computes all scores, in float64.

    Args:
        counts: integers (classes, classes), [true, predicted], see `confusion.count_confusion`.
        class_names: one for each class.
        absent_rule: what is done about absent classes.
        boundary: integers (2, classes), see `boundary.count_boundary`; None where these are not scored.

    Raises:
        ValueError: if the matrix does not fit the names.
        DataError: if not a single pixel was labelled.
    """
    expected = (len(class_names), len(class_names))
    if tuple(counts.shape) != expected:
        raise ValueError(
            f"{len(class_names)} class names need a confusion matrix of shape {expected}. "
            f"Received: counts.shape={tuple(counts.shape)}"
        )
    hits, true, predicted = _marginals(counts)
    pixels = sum(true)
    if not pixels:
        raise DataError(
            "there is nothing to score: every pixel of the ground truth carries the ignore value, or there was no "
            f"image at all. Received: counts.sum()={pixels}"
        )
    is_scored = [bool(t or (p and absent_rule == "zero_if_predicted")) for t, p in zip(true, predicted, strict=True)]
    unions = [t + p - h for h, t, p in zip(hits, true, predicted, strict=True)]
    iou = _ratios(hits, unions, where=is_scored)
    accuracy = _ratios(hits, true, where=[t > 0 for t in true])
    nothing: list[float | None] = [None] * len(true)
    boundary_iou = nothing if boundary is None else _ratios(*boundary.tolist(), where=is_scored)
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


def image_scores(counts: Tensor) -> ImageScores | None:
    """Scores of a single image; None if not one of its pixels is labelled.

    Args:
        counts: integers (classes, classes), [true, predicted], of this image.
    """
    hits, true, predicted = _marginals(counts)
    if not any(true):
        return None
    unions = [t + p - h for h, t, p in zip(hits, true, predicted, strict=True)]
    iou = _ratios(hits, unions, where=[t > 0 for t in true])
    return ImageScores(mean_iou=_mean(iou), pixel_accuracy=sum(hits) / sum(true))


def _marginals(counts: Tensor) -> tuple[list[int], list[int], list[int]]:
    """Of each class the pixels that are right, in the ground truth, and predicted."""
    counts = counts.cpu()
    return counts.diagonal().tolist(), counts.sum(dim=1).tolist(), counts.sum(dim=0).tolist()


def _ratios(parts: Sequence[int], wholes: Sequence[int], *, where: Sequence[bool]) -> list[float | None]:
    return [part / whole if kept else None for part, whole, kept in zip(parts, wholes, where, strict=True)]


def _mean(values: Sequence[float | None]) -> float:
    """Mean of those that are there."""
    there = [value for value in values if value is not None]
    total = 0.0
    for value in there:  # from left to right, as official scripts do it: equal scores, equal mean, to the last digit
        total += value
    return total / len(there)
