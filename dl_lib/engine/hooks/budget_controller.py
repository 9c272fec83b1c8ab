"""Control of the weight of a budget loss with a target."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from dl_lib.checkpoint.state_check import check_state
from dl_lib.engine.training.budget_control import WEIGHT_LIMIT, BudgetControl, ControlState
from dl_lib.engine.training.hook import Hook
from dl_lib.modeling.losses.budget import TargetBudget
from dl_lib.utils import comm

if TYPE_CHECKING:
    from dl_lib.engine.training.trainer import Trainer

__all__ = ["TARGET_TOLERANCE", "BudgetController", "warn_if_missed"]

TARGET_TOLERANCE = 0.02  # relative deviation from the target without a warning

_log = logging.getLogger(__name__)


class BudgetController(Hook):
    """Hook that adjusts the weight of a budget loss after each step until the real cost is the target.

    It reads `budget_cost` of the step, which is averaged over accumulated batches and processes, so that all processes
    compute the same weight. A step whose cost is not finite, which is skipped, changes nothing.

    Records `budget_weight`, `budget_mean_cost` (running mean, in the unit of the target) and `budget_error` (its
    deviation from the target, relative to the target). Must come before the hooks that log and save.

    Args:
        budget: Budget loss of the model.
    """

    def __init__(self, budget: TargetBudget) -> None:
        self._budget = budget
        self._control = BudgetControl(
            target=budget.target / budget.lattice_cost, start_rate=budget.start_rate, warm_up=budget.warm_up
        )
        self._state = ControlState()
        self._has_warned = False

    def after_step(self, trainer: Trainer) -> None:
        cost = trainer.events.current("budget_cost")
        if cost is None:
            return
        state, progress = self._state, trainer.iteration / trainer.max_iter
        self._control.update(state, cost / self._budget.lattice_cost, progress=progress, max_iter=trainer.max_iter)
        self._budget.weight = state.weight
        scalars = {"budget_weight": state.weight, "budget_mean_cost": self._mean_cost, "budget_error": self._error}
        trainer.events.put(scalars, kind="latest")
        if state.is_saturated and state.weight * self._error > 0 and not self._has_warned:
            self._has_warned = warn_if_missed(
                self._budget, self._mean_cost, when=f"the weight of its loss is at its limit of ±{WEIGHT_LIMIT:g}"
            )

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the control, and what it refers to; empty before the first step with a finite cost."""
        if self._state.mean is None:
            return {}
        return {"unit": self._budget.unit, "lattice": self._budget.lattice_cost, **asdict(self._state)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load a state returned by `state_dict`; one of another unit or cost of the lattice is ignored.

        Raises:
            ValueError: If a value is not a finite number.
        """
        if (state.get("unit"), state.get("lattice")) != (self._budget.unit, self._budget.lattice_cost):
            return
        values = {name: state[name] for name in asdict(self._state)}
        for name, value in values.items():
            check_state(value, like=0.0, name=f"BudgetController.{name}")
            if not math.isfinite(value):
                raise ValueError(f"BudgetController.{name} must be finite, but is {value}")
        self._state = ControlState(**values)
        self._budget.weight = self._state.weight

    @property
    def _mean_cost(self) -> float:
        """Running mean of the cost in the unit of the target."""
        assert self._state.mean is not None
        return self._state.mean * self._budget.lattice_cost

    @property
    def _error(self) -> float:
        return self._mean_cost / self._budget.target - 1


def warn_if_missed(budget: TargetBudget, cost: float, *, when: str) -> bool:
    """Warn on the main process if a mean real cost in the unit of the budget misses its target; return whether it does.

    Args:
        budget: Budget with the target.
        cost: Mean real cost in the unit of the target.
        when: Circumstance that the warning states.
    """
    error = cost / budget.target - 1
    is_missed = abs(error) > TARGET_TOLERANCE
    if is_missed and comm.is_main_process():
        _log.warning(
            "Budget target missed, %s: the mean real cost is %.4g instead of MODEL.BUDGET.TARGET=%.4g (%s, %+.1f %%). "
            "With all gates closed and open, this network costs %.4g and %.4g. Train longer, choose another target, or "
            "lower MODEL.BUDGET.UNUPDATE_RATE if it is above 0",
            *(when, cost, budget.target, budget.unit, 100 * error),
            *budget.reachable,
        )
    return is_missed
