"""Exponential moving average in closed form."""

import pytest

from dl_lib.utils.smoothing import smoothed


def test_weights_decay_with_age_without_start_bias():
    assert smoothed([4.0] * 5, decay=0.9) == pytest.approx([4.0] * 5)
    assert smoothed([1.0, 0.0, 0.0], decay=0.5) == pytest.approx([1, 0.5 / 1.5, 0.25 / 1.75])
    assert smoothed([3.0, 1.0, 2.0], decay=0.0) == [3.0, 1.0, 2.0]
