"""Handling of non-finite losses and gradients, `SOLVER.NON_FINITE`."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

__all__ = ["NonFiniteLossError", "NonFinitePolicy"]

_log = logging.getLogger(__name__)


class NonFiniteLossError(ValueError):
    """Infinite or NaN loss or gradient; the step has not changed the weights."""


class NonFinitePolicy:
    """Policy for steps with a non-finite loss or gradient: stop at the first one, or skip up to `max_skipped` steps.

    The check uses means over all processes, so that all take the same action. A skipped step restores the buffers as
    well as the weights: running statistics updated by a diverging batch would not recover.

    Args:
        max_skipped: Steps that may be skipped during the whole training; 0 stops at the first one.

    Attributes:
        skipped: Steps skipped so far, including earlier runs.
    """

    def __init__(self, max_skipped: int = 0) -> None:
        self.max_skipped = max_skipped
        self.skipped = 0
        self._buffers: list[tuple[Tensor, Tensor]] = []

    def before_step(self, model: nn.Module) -> None:
        """Back up the buffers before the forward pass updates them."""
        if self.max_skipped:
            self._buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]

    def accepts(self, scalars: Mapping[str, float], *, iteration: int, max_iter: int, overflows: bool) -> bool:
        """Return whether the optimizer may step; if not, restore the buffers.

        Args:
            scalars: Losses and gradient norm of the step, by name.
            iteration: Iteration of the step, from 0.
            max_iter: Iterations of the whole training.
            overflows: Whether a gradient scaler handles infinite gradients and skips the step itself.

        Raises:
            NonFiniteLossError: If a value is not finite and no further step may be skipped.
        """
        checked = {name: v for name, v in scalars.items() if not (overflows and name == "gradient_norm")}
        if all(math.isfinite(value) for value in checked.values()):
            return True
        values = ", ".join(f"{name}={value:.6g}" for name, value in scalars.items())
        if self.skipped < self.max_skipped:
            self.skipped += 1
            _log.warning(
                "Skipped step %d: non-finite loss or gradient (%d skipped so far): %s", iteration, self.skipped, values
            )
            with torch.no_grad():
                for buffer, before in self._buffers:
                    buffer.copy_(before)
            return False
        skipped = f", after {self.skipped} skipped steps" if self.max_skipped else ""
        raise NonFiniteLossError(
            f"losses and gradients must be finite, but are not in iteration {iteration}/{max_iter} (counted from 0)"
            f"{skipped}. The step has not changed the weights. Try a lower SOLVER.OPTIMIZER.BASE_LR, more "
            f"SOLVER.LR_SCHEDULER.WARMUP_ITERS or a smaller SOLVER.GRAD_CLIP. Received: {values}"
        )
