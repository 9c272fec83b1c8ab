"""Crop candidates, selected by the class distribution of their label."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from dl_lib.data.transforms.geometry import CropPad

__all__ = ["CropCandidates", "largest_class_ratio"]


@dataclass(frozen=True)
class CropCandidates:
    """Random crops, one of which is selected by its label: the first in which no class exceeds a maximum ratio.

    If there is none, the crop whose most frequent class has the smallest ratio is selected.

    Args:
        crops: Candidates in the order they were sampled.
        max_ratio: Largest accepted ratio of one class among the pixels that are not ignored. A crop with a single
            class, or with ignored pixels only, has ratio 1.
        ignore_value: Ignore index.
    """

    crops: tuple[CropPad, ...]
    max_ratio: float
    ignore_value: int

    def select(self, crop_label: Callable[[CropPad], np.ndarray]) -> CropPad:
        """Return the selected crop; `crop_label` is not called for crops after the first accepted one."""
        ratios: list[float] = []
        for crop in self.crops:
            ratios.append(largest_class_ratio(crop_label(crop), ignore_value=self.ignore_value))
            if ratios[-1] <= self.max_ratio:
                return crop
        return self.crops[ratios.index(min(ratios))]


def largest_class_ratio(label: np.ndarray, *, ignore_value: int) -> float:
    """Return the ratio of the most frequent class among the pixels that are not ignored, 1 if all are ignored."""
    counts = np.unique(label[label != ignore_value], return_counts=True)[1]
    return float(counts.max() / counts.sum()) if len(counts) else 1.0
