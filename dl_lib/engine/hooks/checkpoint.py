"""Saving now and then, at the end, and on Ctrl-C."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING

from fvcore.common.checkpoint import Checkpointer

from dl_lib.engine.hooks.base import Hook, is_due
from dl_lib.utils import comm

if TYPE_CHECKING:
    from dl_lib.engine.trainer import Trainer

__all__ = ["PeriodicCheckpoint"]


class PeriodicCheckpoint(Hook):
    """Saves model_0000500.pth and so on (500 steps done), and model_final.pth; the main process alone does it.

    Args:
        checkpointer: knows what is saved and where, and writes down which file is the last.
        period: iterations between two checkpoints; 0 saves at the end only.
    """

    def __init__(self, checkpointer: Checkpointer, *, period: int) -> None:
        self._checkpointer = checkpointer
        self._period = period
        self._saved_at = -1

    def before_train(self, trainer: Trainer) -> None:
        self._saved_at = trainer.iteration if trainer.iteration > 0 else -1  # a resumed run starts from a file

    def after_step(self, trainer: Trainer) -> None:
        if is_due(trainer, self._period):
            self._save(trainer, name=f"model_{trainer.iteration:07d}")

    def after_train(self, trainer: Trainer) -> None:
        self._save(trainer, name="model_final")

    def on_interrupt(self, trainer: Trainer) -> None:
        if trainer.iteration != self._saved_at:
            self._save(trainer, name=f"model_{trainer.iteration:07d}")
        logging.getLogger(__name__).info(
            "interrupted: iteration %d of %d is done, and %s holds it. To go on, give the same command with --resume",
            trainer.iteration,
            trainer.max_iter,
            os.path.abspath(self._checkpointer.save_dir),
        )

    def _save(self, trainer: Trainer, *, name: str) -> None:
        if comm.is_main_process():
            self._checkpointer.save(name)
        self._saved_at = trainer.iteration
