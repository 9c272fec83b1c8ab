"""Handling of non-finite losses and gradients, `SOLVER.NON_FINITE`."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dl_lib.engine.training.debug_files import DebugFiles, ExecutedStep

__all__ = ["NonFiniteLossError", "NonFinitePolicy", "is_finite"]

_log = logging.getLogger(__name__)


class NonFiniteLossError(ValueError):
    """Infinite or NaN loss or gradient; the step has not changed the weights."""


def is_finite(scalars: Mapping[str, float], *, overflows: bool) -> bool:
    """Return whether the losses and the gradient norm of a step are finite.

    Args:
        scalars: Losses and gradient norm of the step, by name.
        overflows: Whether a gradient scaler handles infinite gradients and skips the step itself.
    """
    return all(math.isfinite(value) for name, value in scalars.items() if not (overflows and name == "gradient_norm"))


class NonFinitePolicy:
    """Policy for steps with a non-finite loss or gradient: stop at the first one, or skip up to `max_skipped` steps.

    It is given means over all processes, so that all take the same action. A skipped step changes neither weights nor
    buffers: running statistics updated by a diverging batch would not recover.

    Args:
        max_skipped: Steps that may be skipped during the whole training; 0 stops at the first one.
        debug_files: Files in which the steps are saved; None saves none.

    Attributes:
        skipped: Steps skipped so far, including earlier runs.
    """

    def __init__(self, max_skipped: int = 0, *, debug_files: DebugFiles | None = None) -> None:
        self.max_skipped = max_skipped
        self.skipped = 0
        self._debug_files = debug_files

    def handle(self, step: ExecutedStep, *, means: Mapping[str, float]) -> None:
        """Save a step that is not finite, and skip it; every process must call it.

        Args:
            step: The step in this process, before the optimizer has run.
            means: Its losses and gradient norm by name, averaged over the processes.

        Raises:
            NonFiniteLossError: If no further step may be skipped.
        """
        if self._debug_files is not None:
            self._debug_files.save(step)
        values = ", ".join(f"{name}={value:.6g}" for name, value in means.items())
        if self.skipped < self.max_skipped:
            self.skipped += 1
            step.before.restore_buffers()
            _log.warning(
                "Skipped step %d: non-finite loss or gradient (%d skipped so far): %s",
                *(step.iteration, self.skipped, values),
            )
            return
        skipped = f", after {self.skipped} skipped steps" if self.max_skipped else ""
        raise NonFiniteLossError(
            f"losses and gradients must be finite, but are not in iteration {step.iteration}/{step.max_iter} (counted "
            f"from 0){skipped}. The step has not changed the weights. Try a lower SOLVER.OPTIMIZER.BASE_LR, more "
            f"SOLVER.LR_SCHEDULER.WARMUP_ITERS or a smaller SOLVER.GRAD_CLIP. Received: {values}"
        )
