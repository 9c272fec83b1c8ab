"""Averaging the weights while they are trained."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dl_lib.engine.training.ema import ModelEMA
from dl_lib.engine.training.hook import Hook
from dl_lib.utils import comm

if TYPE_CHECKING:
    from dl_lib.engine.training.trainer import Trainer

__all__ = ["EMAHook"]


class EMAHook(Hook):
    """Takes the weights into their average after each step; belongs before the hooks that save and evaluate."""

    def __init__(self, ema: ModelEMA) -> None:
        self._ema = ema

    def after_step(self, trainer: Trainer) -> None:
        self._ema.update(comm.unwrap(trainer.model))
