"""Hooks that update the learning rate and the EMA after each optimizer step."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch.optim import lr_scheduler

from dl_lib.engine.training.ema import ModelEMA
from dl_lib.engine.training.hook import Hook
from dl_lib.utils import comm

if TYPE_CHECKING:
    from dl_lib.engine.training.trainer import Trainer

__all__ = ["EMAHook", "LRScheduler"]


class LRScheduler(Hook):
    """Hook that steps the learning rate scheduler.

    Records `learning_rate`, the rate of the first parameter group during the step. Must come before every hook that
    saves, so that a checkpoint holds the learning rate of the next step.
    """

    def __init__(self, scheduler: lr_scheduler.LRScheduler) -> None:
        self._scheduler = scheduler

    def after_step(self, trainer: Trainer) -> None:
        trainer.events.put({"learning_rate": trainer.optimizer.param_groups[0]["lr"]}, kind="latest")
        self._scheduler.step()


class EMAHook(Hook):
    """Hook that updates the EMA of the weights. Must come before the hooks that save and evaluate."""

    def __init__(self, ema: ModelEMA) -> None:
        self._ema = ema

    def after_step(self, trainer: Trainer) -> None:
        self._ema.update(comm.unwrap(trainer.model))
