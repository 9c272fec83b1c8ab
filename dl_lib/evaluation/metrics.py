"""From a confusion matrix to scores: a pure function.

With t_c the pixels of class c, p_c the pixels (of any class) taken for c, and h_c those of c taken for c:
IoU_c = h_c / (t_c + p_c - h_c) and accuracy_c = h_c / t_c. Definitions of the means: Long et al., "Fully
Convolutional Networks for Semantic Segmentation" (arXiv 1411.4038), section 5.

**Absent classes.** A class without a single pixel in the ground truth has neither IoU nor accuracy: it is left out
of every mean and named in `absent`. Pixels taken for it still count against the classes that they belong to. The
published evaluator agreed for a class that is not predicted either, but booked one that *is* predicted as IoU 0 in
mIoU, so that its figure can be lower on data in which a class does not occur; Cityscapes and VOC validation have none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["ClassScore", "SegmentationMetrics", "segmentation_metrics"]


@dataclass(frozen=True)
class ClassScore:
    """One class; shares are in [0, 1], None where the ground truth does not hold the class."""

    name: str
    iou: float | None
    accuracy: float | None
    true_pixels: int
    predicted_pixels: int


@dataclass(frozen=True)
class SegmentationMetrics:
    """Scores of a data set, as shares in [0, 1].

    Attributes:
        mean_iou: mIoU, over the classes that are present in the ground truth.
        frequency_weighted_iou: fwIoU, weighted by the pixels that each class has in the ground truth.
        mean_accuracy: mACC, over the classes that are present in the ground truth.
        pixel_accuracy: pACC, share of the labelled pixels that are right.
        pixels: labelled pixels, that is without the ignored ones.
        classes: the scores of each class, in the order of the data set.
    """

    mean_iou: float
    frequency_weighted_iou: float
    mean_accuracy: float
    pixel_accuracy: float
    pixels: int
    classes: tuple[ClassScore, ...]

    @property
    def absent(self) -> tuple[str, ...]:
        """Names of the classes that the ground truth does not hold: they are in none of the means."""
        return tuple(score.name for score in self.classes if score.iou is None)


def segmentation_metrics(counts: Tensor, *, class_names: Sequence[str]) -> SegmentationMetrics:
    """Computes all scores, in float64.

    Args:
        counts: integers (classes, classes), [true, predicted], see `confusion.count_confusion`.
        class_names: one for each class.

    Raises:
        ValueError: if the matrix does not fit the names, or not a single pixel was labelled.
    """
    expected = (len(class_names), len(class_names))
    if tuple(counts.shape) != expected:
        raise ValueError(
            f"{len(class_names)} class names need a confusion matrix of shape {expected}. "
            f"Received: counts.shape={tuple(counts.shape)}"
        )
    counts = counts.cpu()
    hits, true, predicted = counts.diagonal(), counts.sum(dim=1), counts.sum(dim=0)
    pixels = int(true.sum())
    if not pixels:
        raise ValueError(
            "there is nothing to score: every pixel of the ground truth carries the ignore value, or there was no "
            f"image at all. Received: counts.sum()={pixels}"
        )
    present = true > 0
    iou = hits[present].double() / (true + predicted - hits)[present]
    accuracy = hits[present].double() / true[present]
    return SegmentationMetrics(
        mean_iou=float(iou.mean()),
        frequency_weighted_iou=float((iou * true[present]).sum() / pixels),
        mean_accuracy=float(accuracy.mean()),
        pixel_accuracy=float(hits.sum().double() / pixels),
        pixels=pixels,
        classes=_class_scores(class_names, iou=iou, accuracy=accuracy, true=true, predicted=predicted),
    )


def _class_scores(
    names: Sequence[str], *, iou: Tensor, accuracy: Tensor, true: Tensor, predicted: Tensor
) -> tuple[ClassScore, ...]:
    """Puts the scores of the present classes, (present,), back beside the names of all."""
    present = torch.nonzero(true).flatten().tolist()
    iou_of, accuracy_of = (dict(zip(present, values.tolist(), strict=True)) for values in (iou, accuracy))
    return tuple(
        ClassScore(
            name=name,
            iou=iou_of.get(index),
            accuracy=accuracy_of.get(index),
            true_pixels=int(true[index]),
            predicted_pixels=int(predicted[index]),
        )
        for index, name in enumerate(names)
    )
