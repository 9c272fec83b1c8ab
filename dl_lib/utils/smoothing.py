"""Curves without their jitter."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["MovingAverage", "smoothed"]


class MovingAverage:
    """Mean of the values so far, each with the weight share ** age: an exponential average that no start pulls at.

    Args:
        share: in [0, 1): what is left of a value's weight with each further one; 0 keeps the newest only.
    """

    def __init__(self, *, share: float) -> None:
        self._share = share
        self._sum = self._weight = 0.0

    def add(self, value: float) -> float:
        """Takes the next value in, and returns the mean."""
        self._sum = self._share * self._sum + value
        self._weight = self._share * self._weight + 1
        return self._sum / self._weight


def smoothed(values: Iterable[float], *, share: float) -> list[float]:
    """The moving average at each of the values."""
    average = MovingAverage(share=share)
    return [average.add(value) for value in values]
