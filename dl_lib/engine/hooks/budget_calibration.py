"""Calibration of the gates at the end of training, so that the real cost in evaluation mode is the target."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import fmean
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from dl_lib.checkpoint.state_check import check_state
from dl_lib.engine.hooks.budget_controller import TARGET_TOLERANCE, warn_if_missed
from dl_lib.engine.training.distributed import broadcast_buffers
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

# Over all processes. With a standard deviation of 15 % of the lattice's cost, the mean has a standard error of 0.7 %.
CALIBRATION_IMAGES = 512

_STEPS = (0.05, 0.25)  # shifts to try until the cost is on the other side of the target
_PRECISION = 0.002  # relative deviation from the target at which the search ends
_MAX_PASSES = 8  # over the images

_log = logging.getLogger(__name__)


class BudgetCalibration(Hook):
    """Hook that shifts the logits of all gates by one value at the end of training, until the real cost is the target.

    `BudgetController` sees the cost in training mode while weights change; in evaluation mode, a deviation of a few
    percent is left. Training images determine the shift, which is added to the biases of the gates. If no shift of at
    most 0.25 brings the cost within `TARGET_TOLERANCE` of the target, the biases are kept and a warning is logged.

    The shift is not part of training: a resumed run continues with the biases before it, which the checkpoint contains.
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
        gates = (module for module in model.modules() if isinstance(module, Gate))
        self._biases = [bias for gate in gates if (bias := gate.predict.bias) is not None]
        self._before: list[Tensor] = []  # biases before the shift; empty without a shift

    def before_train(self, trainer: Trainer) -> None:
        if self._before:
            self._set_biases(self._before)
            self._before = []

    def after_train(self, trainer: Trainer) -> None:
        before = [bias.detach().clone() for bias in self._biases]
        shift = 0.0

        def error_at(tried: float) -> float:
            self._set_biases(before, shift=tried)
            return self.mean_cost() / self._budget.target - 1

        _log.info("Calibrating the gates on %d batches of training images", self._num_batches)
        broadcast_buffers(self._model)  # costs with the running statistics that checkpoints contain
        try:
            with trainer.interruptible(), preserve_random_state(), evaluation_mode(self._model):
                errors = search_shift(error_at)
            best = min(errors, key=lambda tried: abs(errors[tried]))
            if abs(errors[best]) <= TARGET_TOLERANCE:
                shift = best
        finally:
            self._set_biases(before, shift=shift)
        self._before = before if shift else []
        self._report(shift, errors)

    def state_dict(self) -> dict[str, Any]:
        """Return the biases before the shift; empty without a shift."""
        return {"biases": self._before} if self._before else {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load a state returned by `state_dict`, to be restored before the first step.

        Raises:
            ValueError: If it has no finite bias for each gate.
        """
        biases = state["biases"]
        check_state(biases, like=self._biases, name="BudgetCalibration.biases")
        if [bias.shape for bias in biases] != [bias.shape for bias in self._biases]:
            raise ValueError("BudgetCalibration.biases must have the shapes of the biases of the gates")
        if not all(bias.isfinite().all() for bias in biases):
            raise ValueError("BudgetCalibration.biases must be finite")
        self._before = list(biases)

    @torch.no_grad()
    def mean_cost(self) -> float:
        """Return the mean real cost of the images of all processes, in the unit of the target and the model's mode."""
        costs = []
        for batch in itertools.islice(self._make_loader(), self._num_batches):
            output = self._model.run(self._model.preprocess_images(batch), step_rate=1.0)
            cost = self._budget.cost(output.costs, table=output.cost_table, routing=output.routing)
            costs.append(cost.item())
        return comm.average(torch.tensor(fmean(costs), dtype=torch.float64, device=self._model.device)).item()

    @torch.no_grad()
    def _set_biases(self, values: Sequence[Tensor], *, shift: float = 0.0) -> None:
        for bias, value in zip(self._biases, values, strict=True):
            bias.copy_(value + shift)

    def _report(self, shift: float, errors: Mapping[float, float]) -> None:
        when = "after training, and calibration left the gates unchanged, because no shift of them reaches the target"
        if warn_if_missed(self._budget, self._budget.target * (1 + errors[shift]), when=when):
            return
        _log.info(
            "Calibrated the gates: logits shifted by %+.4f, deviation of the real cost from the target %+.2f %% "
            "(before: %+.2f %%)",
            *(shift, 100 * errors[shift], 100 * errors[0.0]),
        )


def search_shift(error_at: Callable[[float], float]) -> dict[float, float]:
    """Search for the shift with an error of 0; return all shifts that were tried, 0 first, with their errors.

    Brackets the shift with steps away from 0, up to 0.25, then interpolates linearly; evaluates at most 8 shifts.

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
