"""Learning rate range test (arXiv 1506.01186, section 3.3) with exponentially increasing rates."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from dl_lib.utils.smoothing import smoothed

__all__ = ["LRFinderResult", "exponential_rates", "run_lr_finder"]

_DIVERGED_FACTOR = 4.0  # smoothed loss, as a multiple of its minimum, above which training has diverged
_WINDOW_FRACTION = 0.1  # of all rates: points of the regression window
_MIN_WINDOW = 5


@dataclass(frozen=True)
class LRFinderResult:
    """Losses over an increasing learning rate.

    Attributes:
        rates: Learning rates reached, ascending.
        losses: Loss at each rate, before the step changes the weights; finite.
        smoothed: Exponential moving average of the losses.
        window: Consecutive points of each regression line that a slope is computed from.
        diverged: Whether the test ended because the loss diverged.
    """

    rates: tuple[float, ...]
    losses: tuple[float, ...]
    smoothed: tuple[float, ...]
    window: int
    diverged: bool

    @property
    def suggestion(self) -> float | None:
        """Learning rate at the steepest decrease of the loss over log(rate), or None if it never decreases.

        Slopes are least-squares fits to `window` raw losses, because the moving average lags by a large part of a
        decade. Only points up to the minimum of the moving average are used.
        """
        end = int(np.argmin(self.smoothed)) + 1 if self.smoothed else 0
        logs, losses = np.log10(self.rates[:end]), np.array(self.losses[:end])
        windows = [slice(start, start + self.window) for start in range(end - self.window + 1)]
        slopes = [float(np.polyfit(logs[window], losses[window], 1)[0]) for window in windows]
        if not slopes or min(slopes) >= 0:
            return None
        return float(10 ** logs[windows[int(np.argmin(slopes))]].mean())


def exponential_rates(low: float, high: float, *, count: int) -> list[float]:
    """Return at least two learning rates from `low` to `high` with a constant ratio."""
    return [low * (high / low) ** (number / (count - 1)) for number in range(count)]


def run_lr_finder(step: Callable[[float], float], *, rates: Sequence[float], smoothing: float) -> LRFinderResult:
    """Run one step per learning rate until the loss diverges.

    The loss diverges when it is not finite, or when its moving average exceeds four times the minimum so far.

    Args:
        step: Function that trains one step with a learning rate and returns the loss before the step.
        rates: Learning rates, ascending.
        smoothing: Decay of the moving average; see `smoothed`.
    """
    losses: list[float] = []
    averages: list[float] = []
    diverged = False
    for rate in rates:
        loss = step(rate)
        if diverged := not math.isfinite(loss):
            break
        losses.append(loss)
        averages = smoothed(losses, decay=smoothing)
        if diverged := averages[-1] > _DIVERGED_FACTOR * min(averages):
            break
    window = max(_MIN_WINDOW, round(_WINDOW_FRACTION * len(rates)))
    return LRFinderResult(tuple(rates[: len(losses)]), tuple(losses), tuple(averages), window, diverged)
