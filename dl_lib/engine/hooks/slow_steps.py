"""Warning about steps that are much slower than those before them."""

from __future__ import annotations

import logging
import os
from collections import deque
from statistics import median
from typing import TYPE_CHECKING

from dl_lib.data.worker_limits import usable_cores
from dl_lib.engine.training.hook import Hook

if TYPE_CHECKING:
    from dl_lib.engine.training.trainer import Trainer

__all__ = ["SlowStepWarning"]

_STEPS = 100  # whose median is the reference
_MIN_STEPS = 20
_FACTOR = 5.0

_log = logging.getLogger(__name__)


class SlowStepWarning(Hook):
    """Hook that warns about a step that takes more than 5 times the median of the last 100 steps.

    At most one warning per 100 steps, and none in the first 20 steps of a process. Reads the time that `IterationTimer`
    records, which must come first.
    """

    def __init__(self) -> None:
        self._seconds: deque[float] = deque(maxlen=_STEPS)
        self._quiet_until = 0

    def after_step(self, trainer: Trainer) -> None:
        seconds = trainer.events.current("iteration_seconds")
        assert seconds is not None, "IterationTimer comes first"
        if len(self._seconds) >= _MIN_STEPS and trainer.iteration >= self._quiet_until:
            usual = median(self._seconds)
            if seconds > _FACTOR * usual:
                self._quiet_until = trainer.iteration + _STEPS
                self._warn(seconds, usual=usual, waiting=trainer.events.current("data_seconds") or 0.0)
        self._seconds.append(seconds)

    @staticmethod
    def _warn(seconds: float, *, usual: float, waiting: float) -> None:
        _log.warning(
            "Slow step: %.2f s (%.2f s of it waiting for data), %.0f times the median of the last steps (%.3f s). Load "
            'average of the last minute: %.1f on %d CPU cores; if other processes use them, see "Shared machines" in '
            "docs/performance.md",
            *(seconds, waiting, seconds / usual, usual, os.getloadavg()[0], usable_cores()),
        )
