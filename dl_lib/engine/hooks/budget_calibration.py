"""Calibration of the gates at the end of training, so that the real cost in evaluation mode is the target."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterable, Mapping
from statistics import fmean
from typing import TYPE_CHECKING, Any

import torch

from dl_lib.engine.distributed import broadcast_buffers
from dl_lib.engine.hooks.budget_controller import TARGET_TOLERANCE, warn_if_missed
from dl_lib.engine.training.hook import Hook
from dl_lib.engine.training.random_state import preserve_random_state
from dl_lib.modeling.dynamic.gate import Gate
from dl_lib.modeling.losses.budget import TargetBudget
from dl_lib.utils import comm
from dl_lib.utils.modes import evaluation_mode

if TYPE_CHECKING:
    from dl_lib.engine.training.trainer import Trainer
    from dl_lib.modeling import DynamicNet4Seg

__all__ = ["CALIBRATION_IMAGES", "BudgetCalibration", "search_shift"]

CALIBRATION_IMAGES = (
    512  # of all processes; costs of images that differ by 15 % of the lattice's cost give ±0.7 % of it
)

_STEPS = (0.05, 0.25)  # shifts to try until the cost is on the other side of the target
_PRECISION = 0.002  # relative deviation from the target at which the search ends
_MAX_PASSES = 8  # over the images

_log = logging.getLogger(__name__)


class BudgetCalibration(Hook):
    """Hook that shifts the logits of all gates by one value at the end of training, until the real cost is the target.

    `BudgetController` sees the cost in training mode while weights change; in evaluation mode, a deviation of a few
    percent is left. Training images determine the shift, which is added to the biases of the gates. If it would be
    above 0.25, the gates are not changed, and a warning says by how much the target is missed.

    Must come after the hooks that change weights or running statistics, and before those that save and evaluate.

    Args:
        make_loader: Function that returns a new iterable of batches, independent of the training loader.
        num_batches: Batches to use on each process.
        model: Model whose gates are shifted.
        budget: Budget loss of the model.
    """

    def __init__(
        self,
        make_loader: Callable[[], Iterable[Any]],
        *,
        num_batches: int,
        model: DynamicNet4Seg,
        budget: TargetBudget,
    ) -> None:
        self._make_loader, self._num_batches = make_loader, num_batches
        self._model, self._budget = model, budget
        self._biases = [module.predict.bias for module in model.modules() if isinstance(module, Gate)]

    @torch.no_grad()
    def after_train(self, trainer: Trainer) -> None:
        initial = [bias.clone() for bias in self._biases]
        shift = 0.0

        def error_at(tried: float) -> float:
            self._set_biases(initial, shift=tried)
            return self.mean_cost() / self._budget.target - 1

        broadcast_buffers(self._model)  # costs with the running statistics that checkpoints contain
        try:
            with trainer.interruptible(), preserve_random_state(), evaluation_mode(self._model):
                errors = search_shift(error_at)
            best = min(errors, key=lambda tried: abs(errors[tried]))
            if abs(errors[best]) <= TARGET_TOLERANCE:
                shift = best
        finally:
            self._set_biases(initial, shift=shift)
        self._report(shift, errors)

    def _set_biases(self, initial: list[torch.Tensor], *, shift: float) -> None:
        for bias, value in zip(self._biases, initial, strict=True):
            bias.copy_(value + shift)

    def mean_cost(self) -> float:
        """Return the mean real cost of the images of all processes, in the unit of the target and the model's mode."""
        costs = []
        for batch in itertools.islice(self._make_loader(), self._num_batches):
            output = self._model.run(self._model.preprocess_images(batch), step_rate=1.0)
            costs.append(self._budget.cost(output.costs, table=output.cost_table).item())
        return comm.average(torch.tensor(fmean(costs), dtype=torch.float64, device=self._model.device)).item()

    def _report(self, shift: float, errors: Mapping[float, float]) -> None:
        if warn_if_missed(self._budget, self._budget.target * (1 + errors[shift]), when="after training"):
            return
        _log.info(
            "Shifted the logits of all gates by %+.4f for the budget: real cost in evaluation mode is %+.2f %% from "
            "target instead of %+.2f %%",
            *(shift, 100 * errors[shift], 100 * errors[0.0]),
        )


def search_shift(error_at: Callable[[float], float]) -> dict[float, float]:
    """Search for the shift with an error of 0; return all shifts that were tried, with their errors.

    Brackets the shift with steps away from 0, then interpolates linearly.

    Args:
        error_at: Function from a shift to the relative deviation of the cost from the target, which increases with it.
    """
    errors = {0.0: error_at(0.0)}
    direction = -1.0 if errors[0.0] > 0 else 1.0
    steps = iter(_STEPS)
    while len(errors) < _MAX_PASSES and min(map(abs, errors.values())) > _PRECISION:
        below = max((shift for shift, error in errors.items() if error < 0), default=None)
        above = min((shift for shift, error in errors.items() if error > 0), default=None)
        if below is None or above is None:
            step = next(steps, None)
            if step is None:
                break
            tried = direction * step
        else:
            tried = below - errors[below] * (above - below) / (errors[above] - errors[below])
        errors[tried] = error_at(tried)
    return errors
