"""How long a step takes."""

from __future__ import annotations

import datetime
import logging
import time
from typing import TYPE_CHECKING

from fvcore.common.timer import Timer

from dl_lib.engine.hooks.base import Hook

if TYPE_CHECKING:
    from dl_lib.engine.trainer import Trainer

__all__ = ["IterationTimer"]


class IterationTimer(Hook):
    """Puts `iteration_seconds` into the events, and logs at the end where the time went.

    Belongs first in the list, so that the time of the other hooks is not taken for that of the step.
    """

    def __init__(self) -> None:
        self._step = Timer()
        self._step_seconds_sum = 0.0
        self._steps = 0
        self._run_start_seconds = 0.0

    def before_train(self, trainer: Trainer) -> None:
        self._step_seconds_sum, self._steps = 0.0, 0
        self._run_start_seconds = time.perf_counter()

    def before_step(self, trainer: Trainer) -> None:
        self._step.reset()

    def after_step(self, trainer: Trainer) -> None:
        seconds = self._step.seconds()
        trainer.events.put({"iteration_seconds": seconds})
        self._step_seconds_sum += seconds
        self._steps += 1

    def after_train(self, trainer: Trainer) -> None:
        if self._steps == 0:
            return
        hooks_seconds = time.perf_counter() - self._run_start_seconds - self._step_seconds_sum
        logging.getLogger(__name__).info(
            "%d iterations in %s (%.4f s each), and %s beside them",
            self._steps,
            datetime.timedelta(seconds=round(self._step_seconds_sum)),
            self._step_seconds_sum / self._steps,
            datetime.timedelta(seconds=round(hooks_seconds)),
        )
