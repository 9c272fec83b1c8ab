"""Periodic checkpoints, and checkpoints at the end of training and on interrupt."""

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
    """Hook in which the main process saves model_0000500.pth (after 500 steps) and so on, and model_final.pth.

    A failed save ends training: the run can still be resumed from the previous checkpoint, while continuing would lose
    everything after it.

    Args:
        checkpointer: Checkpointer of the run.
        period: Iterations between two checkpoints; 0 saves only at the end.
        keep_last: Number of latest numbered checkpoints to keep; 0 keeps all.
        keep_every: Also keep checkpoints whose iteration is a multiple of this; 0 disables it.
    """

    def __init__(self, checkpointer: Checkpointer, *, period: int, keep_last: int = 0, keep_every: int = 0) -> None:
        self._checkpointer = checkpointer
        self._period = period
        self._keep_last = keep_last
        self._keep_every = keep_every
        self._saved_at = -1

    def before_train(self, trainer: Trainer) -> None:
        self._saved_at = trainer.iteration if trainer.iteration > 0 else -1  # a resumed run has been loaded from a file

    def after_step(self, trainer: Trainer) -> None:
        if is_due(trainer, self._period):
            self._save(trainer, name=numbered_checkpoint(trainer.iteration))

    def after_train(self, trainer: Trainer) -> None:
        self._save(trainer, name=FINAL_CHECKPOINT)

    def on_interrupt(self, trainer: Trainer) -> None:
        if trainer.iteration != self._saved_at:
            self._save(trainer, name=numbered_checkpoint(trainer.iteration))
        logging.getLogger(__name__).info(
            "Interrupted at iteration %d/%d; checkpoint saved in %s. To resume, add --resume to the same command",
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
