"""Periodic log lines with losses, learning rate, cost, speed and memory."""

from __future__ import annotations

import datetime
import logging
from typing import TYPE_CHECKING

from dl_lib.engine.training.hook import Hook, is_due
from dl_lib.utils.events import EventStorage
from dl_lib.utils.logger import REPEATS_BAR

if TYPE_CHECKING:
    from dl_lib.engine.training.trainer import Trainer

__all__ = ["MetricLogger"]

_WINDOW = 20  # iterations that the medians are taken over


class MetricLogger(Hook):
    """Hook that logs medians of scalars over the last 20 iterations, periodically and after the last step.

    In a terminal with a progress bar, the lines go only to the log file.
    """

    def __init__(self, *, period: int) -> None:
        self._period = period

    def after_step(self, trainer: Trainer) -> None:
        if is_due(trainer, self._period) or trainer.iteration == trainer.max_iter:
            line = _line(trainer.events, max_iter=trainer.max_iter)
            logging.getLogger(__name__).info(line, extra=REPEATS_BAR)


def _line(events: EventStorage, *, max_iter: int) -> str:
    names = tuple(events.since(events.iteration - 1)[events.iteration])  # scalars of the latest step
    median = {name: events.median(name, window=_WINDOW) for name in names}
    parts = [f"Iteration {events.iteration}/{max_iter}"]
    if "iteration_seconds" in median:
        eta = datetime.timedelta(seconds=round(median["iteration_seconds"] * (max_iter - events.iteration)))
        parts.append(f"ETA {eta}")
    parts += [f"{name} {value:.4g}" for name, value in median.items() if "loss" in name]
    if "learning_rate" in names:
        parts.append(f"lr {events.latest('learning_rate'):.4g}")
    if "expt_gflops" in median:
        parts.append(f"expected {median['expt_gflops']:.4g} GFLOPs/image")
    if "iteration_seconds" in median:
        parts.append(f"{median['iteration_seconds']:.3f} s/iteration (data {median['data_seconds']:.3f} s)")
    if "images_per_second" in median:
        parts.append(f"{median['images_per_second']:.3g} images/s")
    if "memory_mib" in names:
        parts.append(f"peak memory {events.latest('memory_mib'):.0f} MiB")
    return ", ".join(parts)
