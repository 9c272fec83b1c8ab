"""When the run's scalars are written down."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from dl_lib.engine.training.hook import Hook, is_due
from dl_lib.engine.training.writers import Writer

if TYPE_CHECKING:
    from dl_lib.engine.training.trainer import Trainer

__all__ = ["PeriodicWriter"]


class PeriodicWriter(Hook):
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
        self._written_up_to: list[int] | None = None  # by each writer; None: they are not open
        self._written_before = 0  # by the run that this one goes on from

    def before_train(self, trainer: Trainer) -> None:
        iteration = trainer.iteration
        self._written_up_to = [
            writer.open(iteration=iteration, written=self._written_before) for writer in self._writers
        ]

    def state_dict(self) -> dict[str, Any]:
        """Up to where every writer of the saved run has written."""
        return {"written_up_to": min(self._written_up_to or [self._written_before])}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._written_before = state.get("written_up_to", 0)

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
        if self._written_up_to is None:
            return
        for index, (writer, written) in enumerate(zip(self._writers, self._written_up_to, strict=True)):
            if written < trainer.iteration:
                writer.write(trainer.events, since=written)
                self._written_up_to[index] = trainer.iteration
