"""Bootstrap confidence intervals of IoU over the images of a dataset.

Datasets of as many images are drawn with replacement; the interval of a score lies between percentiles of its values on
them (Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["IouIntervals", "bootstrap_difference", "bootstrap_iou"]

LEVEL = 0.95
_RESAMPLES = 1000
_MAX_WEIGHTS = 2**24  # that exist at once

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class IouIntervals:
    """Confidence intervals, as ratios.

    Attributes:
        mean: Interval of the mIoU, float64 (2,).
        classes: Interval of the IoU of each class, float64 (classes, 2); NaN for classes without labelled pixels.
    """

    mean: Floats
    classes: Floats


def bootstrap_iou(class_counts: npt.NDArray[np.int64], *, seed: int = 0) -> IouIntervals:
    """Return the intervals of level `LEVEL` of a run's scores.

    Args:
        class_counts: Pixels of each image and class, (images, 3, classes), see `ReportData`.
        seed: Seed of the resampling.
    """
    return _intervals(_resampled_ious(class_counts, seed=seed))


def bootstrap_difference(first: npt.NDArray[np.int64], second: npt.NDArray[np.int64], *, seed: int = 0) -> IouIntervals:
    """Return the intervals of level `LEVEL` of the differences second - first of two runs on the same images.

    Both runs are evaluated on the same resampled datasets, so that what makes images difficult for both cancels.

    Args:
        first: Pixels of each image and class of a run, (images, 3, classes).
        second: Those of the other run, images in the same order.
        seed: Seed of the resampling.

    Raises:
        ValueError: If the shapes differ.
    """
    if first.shape != second.shape:
        raise ValueError(f"both runs must have the same images and classes. Received: {first.shape}, {second.shape}")
    (means, classes), (other_means, other_classes) = (_resampled_ious(counts, seed=seed) for counts in (first, second))
    return _intervals((other_means - means, other_classes - classes))


def _resampled_ious(class_counts: npt.NDArray[np.int64], *, seed: int) -> tuple[Floats, Floats]:
    """Return mIoU (resamples,) and IoU of each class (resamples, classes); NaN without labelled pixels."""
    num_images, _, num_classes = class_counts.shape
    rng = np.random.default_rng(seed)
    counts = class_counts.reshape(num_images, -1).astype(np.float64)  # sums are exact below 2**53
    rows = max(1, _MAX_WEIGHTS // num_images)
    sums = [
        rng.multinomial(num_images, np.full(num_images, 1 / num_images), size=min(rows, _RESAMPLES - start)) @ counts
        for start in range(0, _RESAMPLES, rows)
    ]
    intersection, predicted, labelled = np.concatenate(sums).reshape(_RESAMPLES, 3, num_classes).transpose(1, 0, 2)
    is_known = labelled > 0
    union = np.where(is_known, predicted + labelled - intersection, 1)
    ious = np.where(is_known, intersection / union, 0)
    num_known = is_known.sum(axis=1)
    means = np.where(num_known > 0, ious.sum(axis=1) / np.maximum(num_known, 1), np.nan)
    return means, np.where(is_known, ious, np.nan)


def _intervals(values: tuple[Floats, Floats]) -> IouIntervals:
    means, classes = values
    return IouIntervals(mean=_interval(means), classes=np.array([_interval(column) for column in classes.T]))


def _interval(values: Floats) -> Floats:
    known = values[np.isfinite(values)]
    tail = (1 - LEVEL) / 2
    return np.quantile(known, [tail, 1 - tail]) if len(known) else np.full(2, np.nan)
