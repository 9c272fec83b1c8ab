"""Calibration of the predicted confidence (Guo et al., "On Calibration of Modern Neural Networks", arXiv 1706.04599).

The confidence of a pixel is its largest softmax probability. Pixels are counted in bins of equal width; bin m of M
contains the confidences in ((m - 1) / M, m / M].
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

__all__ = ["NUM_BINS", "CalibrationCounts", "confidence_of", "count_calibration"]

NUM_BINS = 15  # as in the paper
_BITS = 24  # of a confidence, the resolution of float32 below 1; sums of integers do not depend on the order


@dataclass(frozen=True, eq=False)
class CalibrationCounts:
    """Labelled pixels by confidence, at least one.

    Attributes:
        pixels: Number of pixels in each bin, int64 (NUM_BINS,).
        correct: Number of correctly predicted pixels in each bin, int64 (NUM_BINS,).
        confidence: Sum of the confidences in each bin, float64 (NUM_BINS,).
    """

    pixels: npt.NDArray[np.int64]
    correct: npt.NDArray[np.int64]
    confidence: npt.NDArray[np.float64]

    @classmethod
    def from_sums(cls, sums: Tensor) -> CalibrationCounts | None:
        """Return the counts of a sum of `count_calibration`; None without pixels."""
        pixels, correct, confidence = sums.cpu().numpy()
        return cls(pixels, correct, confidence / 2**_BITS) if pixels.any() else None

    @property
    def ece(self) -> float:
        """Expected calibration error (eq. 3), in [0, 1]: mean distance of accuracy and confidence, weighted by pixels.

        The weight of a bin cancels the denominators of its accuracy and its mean confidence.
        """
        return float(np.abs(self.correct - self.confidence).sum() / self.pixels.sum())


def confidence_of(logits: Tensor) -> Tensor:
    """Return the confidence of each pixel, float32 (H, W), of logits (classes, H, W); 0 where they are not finite."""
    return logits.float().softmax(dim=0).amax(dim=0).nan_to_num(0.0)


def count_calibration(confidence: Tensor, *, is_correct: Tensor) -> Tensor:
    """Count labelled pixels by confidence.

    Args:
        confidence: Confidence in [0, 1] of each labelled pixel, float32 (pixels,).
        is_correct: Whether its prediction is correct, bool (pixels,).

    Returns:
        int64 (3, NUM_BINS) on their device, to be added up over images: number of pixels, number of correct pixels, sum
        of the confidences in units of 2^-24.
    """
    units = (confidence.double() * 2**_BITS).round().long()
    bins = (units * NUM_BINS - 1 >> _BITS).clamp_(0, NUM_BINS - 1)
    counts = torch.bincount(2 * bins + is_correct, minlength=2 * NUM_BINS).view(NUM_BINS, 2)
    confidences = torch.zeros(NUM_BINS, dtype=torch.int64, device=units.device).index_add_(0, bins, units)
    return torch.stack([counts.sum(dim=1), counts[:, 1], confidences])
