"""Saving now and then, at the end, and on Ctrl-C."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING

from dl_lib.checkpoint import Checkpointer
from dl_lib.engine.training.hook import Hook, is_due
from dl_lib.utils import comm
from dl_lib.utils.run_files import FINAL_CHECKPOINT, numbered_checkpoint

if TYPE_CHECKING:
    from dl_lib.engine.training.trainer import Trainer

__all__ = ["PeriodicCheckpointer"]


class PeriodicCheckpointer(Hook):
    """Saves model_0000500.pth and so on (500 steps done), and model_final.pth; the main process alone does it.

    A save that fails ends the training: a run that cannot be saved is lost already, and stopped now it can go on from
    the checkpoint before.

    Args:
        checkpointer: knows what is saved and where, and writes down which file is the last.
        period: iterations between two checkpoints; 0 saves at the end only.
        keep_last: how many of the newest with an iteration in their names stay; 0 keeps all.
        keep_every: those after a multiple of so many iterations stay, too; 0 for none.
    """

    def __init__(self, checkpointer: Checkpointer, *, period: int, keep_last: int = 0, keep_every: int = 0) -> None:
        self._checkpointer = checkpointer
        self._period = period
        self._keep_last = keep_last
        self._keep_every = keep_every
        self._saved_at = -1

    def before_train(self, trainer: Trainer) -> None:
        self._saved_at = trainer.iteration if trainer.iteration > 0 else -1  # a resumed run starts from a file

    def after_step(self, trainer: Trainer) -> None:
        if is_due(trainer, self._period):
            self._save(trainer, name=numbered_checkpoint(trainer.iteration))

    def after_train(self, trainer: Trainer) -> None:
        self._save(trainer, name=FINAL_CHECKPOINT)

    def on_interrupt(self, trainer: Trainer) -> None:
        if trainer.iteration != self._saved_at:
            self._save(trainer, name=numbered_checkpoint(trainer.iteration))
        logging.getLogger(__name__).info(
            "interrupted: iteration %d of %d is done, and %s holds it. To go on, give the same command with --resume",
            trainer.iteration,
            trainer.max_iter,
            os.path.abspath(self._checkpointer.save_dir),
        )

    def _save(self, trainer: Trainer, *, name: str) -> None:
        trainer.gather_state()
        if comm.is_main_process():
            self._checkpointer.save(name, iteration=trainer.iteration)
            self._checkpointer.prune(
                iteration=trainer.iteration, keep_last=self._keep_last, keep_every=self._keep_every
            )
        self._saved_at = trainer.iteration
