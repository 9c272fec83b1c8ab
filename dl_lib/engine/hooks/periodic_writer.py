"""Periodic writing of scalars to files."""

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
    """Hook that passes the events to writers periodically and when training ends, also after an error.

    Must come last, so that scalars recorded by all other hooks are written. The last iteration is written in `close`,
    after the final evaluation, so that each iteration is written once.

    Args:
        writers: Writers of the main process; empty on other processes.
        period: Iterations between two writes.
    """

    def __init__(self, writers: Iterable[Writer], *, period: int) -> None:
        self._writers = list(writers)
        self._period = period
        self._written_up_to: list[int] | None = None  # iteration per writer; None while they are not open
        self._restored = 0  # iteration up to which the run resumed from had written

    def before_train(self, trainer: Trainer) -> None:
        iteration = trainer.iteration
        self._written_up_to = [writer.open(iteration=iteration, written=self._restored) for writer in self._writers]

    def state_dict(self) -> dict[str, Any]:
        """Return the iteration up to which all writers have written."""
        return {"written_up_to": min(self._written_up_to or [self._restored])}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load a state returned by `state_dict`."""
        self._restored = state.get("written_up_to", 0)

    def after_step(self, trainer: Trainer) -> None:
        if is_due(trainer, self._period):
            self._write(trainer)

    def close(self, trainer: Trainer) -> None:
        with ExitStack() as closing:  # closes every writer even if one of them fails
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
