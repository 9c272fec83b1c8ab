"""Expected calibration error against closed forms and a brute-force reference."""

import numpy as np
import pytest

from dl_lib.evaluation.scores.calibration import NUM_BINS, CalibrationCounts


def test_ece_in_closed_form():
    """Half of the pixels 0.3 too confident, a quarter 0.2 too cautious, a quarter calibrated: 0.15 + 0.05."""
    pixels, correct, confidence = np.zeros(NUM_BINS, np.int64), np.zeros(NUM_BINS, np.int64), np.zeros(NUM_BINS)
    pixels[[14, 10, 7]] = 200, 100, 100
    correct[[14, 10, 7]] = 130, 90, 50
    confidence[[14, 10, 7]] = 0.95 * 200, 0.7 * 100, 0.5 * 100
    assert CalibrationCounts(pixels, correct, confidence).ece == pytest.approx(0.5 * 0.3 + 0.25 * 0.2, rel=1e-12)
