"""Calibration of the predicted confidence (Guo et al., "On Calibration of Modern Neural Networks", arXiv 1706.04599).

The confidence of a pixel is its largest softmax probability. Pixels are counted in bins of equal width; bin m of M
contains the confidences in ((m - 1) / M, m / M].
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["NUM_BINS", "CalibrationCounts"]

NUM_BINS = 15  # as in the paper


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

    @property
    def ece(self) -> float:
        """Expected calibration error (eq. 3), in [0, 1]: mean distance of accuracy and confidence, weighted by pixels.

        The weight of a bin cancels the denominators of its accuracy and its mean confidence.
        """
        return float(np.abs(self.correct - self.confidence).sum() / self.pixels.sum())
