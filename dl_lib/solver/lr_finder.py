"""Which learning rates a training bears: the range test of arXiv 1506.01186, section 3.3, on a logarithmic scale."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from dl_lib.utils.smoothing import ExponentialMovingAverage

__all__ = ["LRFinderResult", "exponential_rates", "run_lr_finder"]

_DIVERGED_FACTOR = 4.0  # smoothed loss as a multiple of the lowest one so far, from which on it is beyond hope
_LINE_SHARE = 0.1  # of all rates that are to be tested: those that a slope is measured over
_LINE_POINTS = 5  # at least


@dataclass(frozen=True)
class LRFinderResult:
    """Losses of a training whose learning rate grows from step to step.

    Attributes:
        rates: ascending; those that were reached.
        losses: finite, of the step with each rate, before it changes the weights.
        smoothed: moving average of the losses.
        line_points: how many neighbouring points a slope is measured over.
        diverged: whether the test ended because the loss did.
    """

    rates: tuple[float, ...]
    losses: tuple[float, ...]
    smoothed: tuple[float, ...]
    line_points: int
    diverged: bool

    @property
    def suggestion(self) -> float | None:
        """The rate at which the loss falls most steeply over the logarithm of the rate; None if it falls nowhere.

        Slopes are those of least-squares lines through `line_points` losses, not of the moving average, which lags
        behind by a large part of a decade. Only what comes before the lowest moving average counts.
        """
        end = int(np.argmin(self.smoothed)) + 1 if self.smoothed else 0
        logs, losses = np.log10(self.rates[:end]), np.array(self.losses[:end])
        starts = range(end - self.line_points + 1)
        lines = [slice(start, start + self.line_points) for start in starts]
        slopes = [float(np.polyfit(logs[line], losses[line], 1)[0]) for line in lines]
        if not slopes or min(slopes) >= 0:
            return None
        return float(10 ** logs[lines[int(np.argmin(slopes))]].mean())


def exponential_rates(low: float, high: float, *, count: int) -> list[float]:
    """So many rates from `low` to `high`, each the same multiple of the one before; two at least."""
    return [low * (high / low) ** (number / (count - 1)) for number in range(count)]


def run_lr_finder(step: Callable[[float], float], *, rates: Sequence[float], smoothing: float) -> LRFinderResult:
    """Makes a step with each rate until the loss diverges.

    It does so when it is not finite, or when its moving average is four times the lowest one so far.

    Args:
        step: makes a step with this learning rate, and returns the loss from before it.
        rates: ascending.
        smoothing: share of the moving average, see `ExponentialMovingAverage`.
    """
    average = ExponentialMovingAverage(decay=smoothing)
    losses: list[float] = []
    smoothed: list[float] = []
    diverged = False
    for rate in rates:
        loss = step(rate)
        if diverged := not math.isfinite(loss):
            break
        losses.append(loss)
        smoothed.append(average.add(loss))
        if diverged := smoothed[-1] > _DIVERGED_FACTOR * min(smoothed):
            break
    line_points = max(_LINE_POINTS, round(_LINE_SHARE * len(rates)))
    return LRFinderResult(tuple(rates[: len(losses)]), tuple(losses), tuple(smoothed), line_points, diverged)
