"""Learning rates that change from step to step."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch.optim import lr_scheduler

from dl_lib.engine.training.hook import Hook

if TYPE_CHECKING:
    from dl_lib.engine.training.trainer import Trainer

__all__ = ["LRScheduler"]


class LRScheduler(Hook):
    """Moves the schedule on after each step.

    Puts `learning_rate` into the events: the one that the step was made with, of the first parameter group.
    Belongs before every hook that saves, so that what is saved holds the learning rate of the next step.

    Args:
        scheduler: of the trainer's optimizer.
    """

    def __init__(self, scheduler: lr_scheduler.LRScheduler) -> None:
        self._scheduler = scheduler

    def after_step(self, trainer: Trainer) -> None:
        trainer.events.put({"learning_rate": trainer.optimizer.param_groups[0]["lr"]})
        self._scheduler.step()
