"""Exponential moving average of a sequence, with bias correction (arXiv 1412.6980, section 3)."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["ExponentialMovingAverage", "smoothed"]


class ExponentialMovingAverage:
    """Weighted mean of all values so far; a value of age `a` has weight `decay ** a`.

    Dividing by the sum of weights keeps the first values unbiased.

    Args:
        decay: Factor in [0, 1) by which a value's weight shrinks per step; 0 returns the latest value.
    """

    def __init__(self, *, decay: float) -> None:
        self._decay = decay
        self._sum = self._weight = 0.0

    def add(self, value: float) -> float:
        """Add a value and return the updated mean."""
        self._sum = self._decay * self._sum + value
        self._weight = self._decay * self._weight + 1
        return self._sum / self._weight


def smoothed(values: Iterable[float], *, decay: float) -> list[float]:
    """Return the exponential moving average at each value."""
    average = ExponentialMovingAverage(decay=decay)
    return [average.add(value) for value in values]
