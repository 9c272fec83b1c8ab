"""Exponential moving average of a sequence, with bias correction (arXiv 1412.6980, section 3)."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["smoothed"]


def smoothed(values: Iterable[float], *, decay: float) -> list[float]:
    """Return the exponential moving average at each value.

    A value of age `a` has weight `decay ** a`, with `decay` in [0, 1); 0 returns the values. Dividing by the sum of
    weights keeps the first averages unbiased.
    """
    averages, total, weight = [], 0.0, 0.0
    for value in values:
        total, weight = decay * total + value, decay * weight + 1
        averages.append(total / weight)
    return averages
