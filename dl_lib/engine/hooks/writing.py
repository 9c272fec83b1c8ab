"""When the run's scalars are written down."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from dl_lib.engine.hooks.base import Hook
from dl_lib.engine.writers import Writer

if TYPE_CHECKING:
    from dl_lib.engine.trainer import Trainer

__all__ = ["WriteMetrics"]


class WriteMetrics(Hook):
    """Hands the events to writers every so many iterations, and what is left at the end, also after an error.

    Belongs last in the list, so that it sees what the other hooks put there. The last iteration is written after
    the final evaluation, so that no iteration is written twice.

    Args:
        writers: where to; none on processes other than the main one.
        period: iterations from one line to the next.
    """

    def __init__(self, writers: Iterable[Writer], *, period: int) -> None:
        self._writers = list(writers)
        self._period = period
        self._written_up_to = 0

    def before_train(self, trainer: Trainer) -> None:
        self._written_up_to = trainer.iteration
        for writer in self._writers:
            writer.open(iteration=trainer.iteration)

    def after_step(self, trainer: Trainer) -> None:
        if trainer.iteration % self._period == 0 and trainer.iteration < trainer.max_iter:
            self._write(trainer)

    def close(self, trainer: Trainer) -> None:
        if trainer.iteration > self._written_up_to:
            self._write(trainer)
        for writer in self._writers:
            writer.close()

    def _write(self, trainer: Trainer) -> None:
        for writer in self._writers:
            writer.write(trainer.events, since=self._written_up_to)
        self._written_up_to = trainer.iteration
