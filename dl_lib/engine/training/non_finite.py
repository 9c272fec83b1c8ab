"""What a loss or a gradient that is infinite or not a number does to a training: `SOLVER.NON_FINITE`."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

__all__ = ["NonFiniteLossError", "NonFinitePolicy"]

_log = logging.getLogger(__name__)


class NonFiniteLossError(ValueError):
    """A loss or gradient is infinite or not a number; the weights are those from before the step."""


class NonFinitePolicy:
    """Stops at the first such step, or leaves such steps out up to a bound.

    The means over the processes are looked at, so that all of them do the same. A step that is left out leaves the
    weights as they were, and the buffers too: running statistics that saw what made the loss explode would not recover.

    Args:
        max_skipped: steps that may be left out over the whole training; 0 stops at the first.

    Attributes:
        skipped: how many were, those of earlier runs included.
    """

    def __init__(self, max_skipped: int = 0) -> None:
        self.max_skipped = max_skipped
        self.skipped = 0
        self._buffers: list[tuple[Tensor, Tensor]] = []

    def before_step(self, model: nn.Module) -> None:
        """Keeps what the forward pass may spoil."""
        if self.max_skipped:
            self._buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]

    def accepts(self, scalars: Mapping[str, float], *, iteration: int, max_iter: int, overflows: bool) -> bool:
        """Whether the optimizer may step.

        Args:
            scalars: of the step.
            iteration: of the step, counted from 0.
            max_iter: of the training.
            overflows: whether infinite gradients are the business of a scaler, which skips the step itself.

        Raises:
            NonFiniteLossError: if not, and no further step may be left out.
        """
        checked = {name: v for name, v in scalars.items() if not (overflows and name == "gradient_norm")}
        if all(math.isfinite(value) for value in checked.values()):
            return True
        terms = ", ".join(f"{name}={value:.6g}" for name, value in scalars.items())
        if self.skipped < self.max_skipped:
            self.skipped += 1
            _log.warning("iteration %d is left out, %d so far: not finite, %s", iteration, self.skipped, terms)
            with torch.no_grad():
                for buffer, values in self._buffers:
                    buffer.copy_(values)
            return False
        bound = f", and {self.skipped} steps were left out before" if self.max_skipped else ""
        raise NonFiniteLossError(
            f"losses and gradients have to be finite, and are not at iteration {iteration} of {max_iter} (counted from "
            f"0){bound}; the weights are those from before it. A lower SOLVER.OPTIMIZER.BASE_LR, more "
            "SOLVER.LR_SCHEDULER.WARMUP_ITERS or a smaller SOLVER.GRAD_CLIP may help. "
            f"Received: {terms}"
        )
