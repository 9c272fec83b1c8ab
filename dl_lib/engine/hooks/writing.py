"""When the run's scalars are written down."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack
from typing import TYPE_CHECKING

from dl_lib.engine.hooks.base import Hook, is_due
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
        self._written_up_to: int | None = None  # None: the writers are not open

    def before_train(self, trainer: Trainer) -> None:
        for writer in self._writers:
            writer.open(iteration=trainer.iteration)
        self._written_up_to = trainer.iteration

    def after_step(self, trainer: Trainer) -> None:
        if is_due(trainer, self._period):
            self._write(trainer)

    def close(self, trainer: Trainer) -> None:
        with ExitStack() as closing:  # each of them, whatever goes wrong with the others
            for writer in self._writers:
                closing.callback(writer.close)
            self._write(trainer)
        self._written_up_to = None

    def _write(self, trainer: Trainer) -> None:
        if self._written_up_to is None or trainer.iteration == self._written_up_to:
            return
        for writer in self._writers:
            writer.write(trainer.events, since=self._written_up_to)
        self._written_up_to = trainer.iteration
