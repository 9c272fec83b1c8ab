"""Periodic log lines with losses, learning rate, cost, speed and memory."""

from __future__ import annotations

import datetime
import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING

from dl_lib.engine.training.hook import Hook, is_due
from dl_lib.utils.events import window_start
from dl_lib.utils.logger import REPEATS_BAR
from dl_lib.utils.run_files import METRICS_NAME

if TYPE_CHECKING:
    from dl_lib.engine.training.trainer import Trainer

__all__ = ["MetricLogger"]

_FORMATS = {  # after the losses, by the scalar that must exist
    "learning_rate": "lr {learning_rate:.4g}",
    "expt_gflops": "expected {expt_gflops:.4g} GFLOPs/image",
    "budget_weight": "budget weight {budget_weight:.3g} (real cost {budget_error:+.1%} from target)",
    "iteration_seconds": "{iteration_seconds:.3f} s/iteration (data {data_seconds:.3f} s)",
    "images_per_second": "{images_per_second:.3g} images/s",
    "memory_mib": "peak memory {memory_mib:.0f} MiB",
}

_log = logging.getLogger(__name__)


class MetricLogger(Hook):
    """Hook that logs the scalars that `PeriodicWriter` writes, with the same values: see `EventStorage.put`.

    In a terminal with a progress bar, the lines go only to the log file.

    Args:
        period: Iterations between two lines; another one follows after the last step.
    """

    def __init__(self, *, period: int) -> None:
        self._period = period

    def before_train(self, trainer: Trainer) -> None:
        if trainer.iteration < trainer.max_iter:
            _log.info(
                "Losses, costs and times in this log and in %s are medians over the iterations since the previous "
                "multiple of LOG_PERIOD=%d",
                METRICS_NAME,
                self._period,
            )

    def after_step(self, trainer: Trainer) -> None:
        if is_due(trainer, self._period) or trainer.iteration == trainer.max_iter:
            scalars = trainer.events.summary(after=window_start(trainer.iteration, period=self._period))
            _log.info(_line(scalars, iteration=trainer.iteration, max_iter=trainer.max_iter), extra=REPEATS_BAR)


def _line(scalars: Mapping[str, float], *, iteration: int, max_iter: int) -> str:
    parts = [f"Iteration {iteration}/{max_iter}"]
    if "iteration_seconds" in scalars:
        eta = datetime.timedelta(seconds=round(scalars["iteration_seconds"] * (max_iter - iteration)))
        parts.append(f"ETA {eta}")
    parts += [f"{name} {value:.4g}" for name, value in scalars.items() if "loss" in name]
    parts += [text.format_map(scalars) for name, text in _FORMATS.items() if name in scalars]
    return ", ".join(parts)
