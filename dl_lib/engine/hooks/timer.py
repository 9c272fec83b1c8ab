"""Step time, throughput and peak memory."""

from __future__ import annotations

import datetime
import logging
import resource
import sys
import time
from typing import TYPE_CHECKING

import torch
from fvcore.common.timer import Timer
from torch import nn

from dl_lib.engine.training.hook import Hook

if TYPE_CHECKING:
    from dl_lib.engine.training.trainer import Trainer

__all__ = ["IterationTimer"]


class IterationTimer(Hook):
    """Hook that records times and memory, and logs the total time of steps and of hooks at the end.

    Records `iteration_seconds`; `images_per_second` over all processes; and `memory_mib`, the peak of this process so
    far: GPU memory allocated if the model is on a GPU, otherwise resident memory. Must come first, so that the time of
    other hooks is not attributed to the step.

    Args:
        images_per_step: Images per step over all processes; None omits `images_per_second`.
    """

    def __init__(self, *, images_per_step: int | None = None) -> None:
        self._images_per_step = images_per_step
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
        trainer.events.put({"memory_mib": _peak_memory_mib(trainer.model)}, kind="latest")
        if self._images_per_step is not None:
            trainer.events.put({"images_per_second": self._images_per_step / seconds})
        self._step_seconds_sum += seconds
        self._steps += 1

    def after_train(self, trainer: Trainer) -> None:
        if self._steps == 0:
            return
        hooks_seconds = time.perf_counter() - self._run_start_seconds - self._step_seconds_sum
        logging.getLogger(__name__).info(
            "Trained %d iterations in %s (%.4f s/iteration); hooks took %s",
            self._steps,
            datetime.timedelta(seconds=round(self._step_seconds_sum)),
            self._step_seconds_sum / self._steps,
            datetime.timedelta(seconds=round(hooks_seconds)),
        )


def _peak_memory_mib(model: nn.Module) -> float:
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10  # bytes on macOS, KiB on Linux
