"""Controller of the weight of a budget loss with a target, `MODEL.BUDGET.CONTROL: target`."""

from __future__ import annotations

import math
from dataclasses import dataclass

__all__ = ["WEIGHT_LIMIT", "BudgetControl", "ControlState"]

WEIGHT_LIMIT = 10.0  # largest weight of either sign; the losses are about 1

# Time constants as fractions of the controlled iterations, so that a run of ten times the length settles like a short
# one. `tests/engine/training/test_budget_control.py` shows which networks they suit.
_FILTER = 0.012  # of the running means
_LEAD = 0.015  # horizon of the predicted cost; Adam's momentum and the running mean delay the response
_INTEGRAL = 0.1  # of the integral part
_WARM_UP = 0.1  # ramp of the target

_GAIN = 25.0  # per deviation of the cost from the target, as a fraction of the lattice's cost
_FLOOR = 0.02  # integral part above which the gain is proportional to it; below, the gain is constant
_MAX_DEVIATION = 0.05  # that is integrated: anti-windup while the cost approaches the target
_OVERSHOOT = 0.02  # deviation that counts as an overshoot
_DAMPING = 0.85  # factor of the gain after an overshoot


@dataclass
class ControlState:
    """State of a `BudgetControl`; costs are fractions of the lattice's cost.

    Attributes:
        mean: Running mean of the cost; None before the first step.
        mean_of_means: Running mean of `mean`, for its slope.
        start: Running mean when the control began; the target once that is reached.
        integral: Integral part of the weight.
        damping: Factor of the gain, which falls with each overshoot.
        side: Sign of the last deviation that counts as an overshoot.
        weight: Weight of the loss in the next step.
    """

    mean: float | None = None
    mean_of_means: float = 0.0
    start: float = 0.0
    integral: float = 0.0
    damping: float = 1.0
    side: float = 0.0
    weight: float = 0.0

    @property
    def is_saturated(self) -> bool:
        """True if the weight is at its limit."""
        return abs(self.weight) >= WEIGHT_LIMIT


@dataclass(frozen=True)
class BudgetControl:
    """PI controller with prediction, from the cost of each step to the weight of the budget loss.

    The weight is `integral + gain * d`, where d is the deviation of the cost, predicted from its running mean and
    slope, from the target. The order of magnitude of the weight that keeps the target is not known in advance: it
    depends on the losses and on the benefit of the gates. Hence the gain is proportional to the weight above `_FLOOR`.
    Each overshoot reduces the gain, which ends oscillations of networks that respond late.

    Args:
        target: Target of the cost, a fraction of the lattice's cost.
        start_rate: Fraction of training before the control begins.
        warm_up: Whether the target moves linearly from the cost at the start of the control, over a tenth of the
            remaining iterations.
    """

    target: float
    start_rate: float
    warm_up: bool

    def update(self, state: ControlState, cost: float, *, progress: float, max_iter: int) -> None:
        """Update the state in place.

        Args:
            state: State after the previous step.
            cost: Mean cost of the images of the step, a fraction of the lattice's cost.
            progress: Training progress after the step, in [0, 1].
            max_iter: Iterations of the whole training.
        """
        iterations = (1 - self.start_rate) * max_iter
        self._average(state, cost, rate=1 / max(1.0, _FILTER * iterations))
        assert state.mean is not None
        if progress < self.start_rate:
            state.start = state.mean
            return
        predicted = state.mean + _LEAD / _FILTER * (state.mean - state.mean_of_means)
        target = self._current_target(state, progress)
        self._damp(state, state.mean - target)
        gain = state.damping * _GAIN * (_FLOOR + abs(state.integral))
        step = gain * _clipped(predicted - target, _MAX_DEVIATION) / max(1.0, _INTEGRAL * iterations)
        state.integral = _clipped(state.integral + step, WEIGHT_LIMIT)
        state.weight = _clipped(state.integral + gain * (predicted - target), WEIGHT_LIMIT)

    def _average(self, state: ControlState, cost: float, *, rate: float) -> None:
        if state.mean is None:
            state.mean = state.mean_of_means = state.start = cost
        state.mean += rate * (cost - state.mean)
        state.mean_of_means += rate * (state.mean - state.mean_of_means)

    def _current_target(self, state: ControlState, progress: float) -> float:
        done = min(1.0, (progress - self.start_rate) / (_WARM_UP * (1 - self.start_rate)))
        if done == 1 or not self.warm_up:
            state.start = self.target  # the ramp is not repeated if a longer training resumes
        return self.target + (1 - done) * (state.start - self.target)

    def _damp(self, state: ControlState, deviation: float) -> None:
        if abs(deviation) <= _OVERSHOOT:
            return
        side = math.copysign(1.0, deviation)
        if side == -state.side:
            state.damping *= _DAMPING
        state.side = side


def _clipped(value: float, limit: float) -> float:
    return min(limit, max(-limit, value))
