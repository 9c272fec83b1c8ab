"""Periodic writing of scalars to files and experiment trackers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from dl_lib.engine.training.hook import Hook, is_due
from dl_lib.engine.training.writers import Writer
from dl_lib.utils import comm
from dl_lib.utils.events import window_start

if TYPE_CHECKING:
    from dl_lib.engine.training.trainer import Trainer

__all__ = ["PeriodicWriter"]


class PeriodicWriter(Hook):
    """Hook that passes scalars to writers: all of them periodically and at the end, evaluation metrics at once.

    Must come last, so that an iteration is complete, with its evaluation, when it is written. After an error or
    interrupt nothing is written: the resumed run repeats or completes the iteration, so that its files equal those of
    an undisturbed run. `EventStorage.put` documents the values.

    Args:
        writers: Writers of the main process; empty on other processes.
        period: Iterations between two writes.
    """

    def __init__(self, writers: Iterable[Writer], *, period: int) -> None:
        self._writers = list(writers)
        self._period = period
        self._restored = 0  # iteration up to which the run resumed from had written
        self._written: list[int] = []  # iteration per writer

    def before_train(self, trainer: Trainer) -> None:
        iteration, written = trainer.iteration, min(self._restored, trainer.iteration)
        self._written = [writer.open(iteration=iteration, written=written) for writer in self._writers]
        if iteration >= trainer.max_iter:  # the final evaluation is repeated, as it may have failed
            self._written = [written] * len(self._writers)
        comm.synchronize()  # waiting for trackers of the main process here keeps it out of the first step's time

    def state_dict(self) -> dict[str, Any]:
        """Return the iteration up to which all writers have written."""
        return {"written_up_to": min(self._written, default=self._restored)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load a state returned by `state_dict`."""
        self._restored = state.get("written_up_to", 0)

    def after_step(self, trainer: Trainer) -> None:
        if trainer.iteration < trainer.max_iter:
            self._write(trainer, with_summary=is_due(trainer, self._period))

    def after_train(self, trainer: Trainer) -> None:
        self._write(trainer, with_summary=True)
        iteration, events = trainer.iteration, trainer.events
        metrics = events.current_eval_metrics() or events.summary(after=window_start(iteration, period=self._period))
        for writer in self._writers:
            writer.write_final(metrics, iteration=iteration)

    def close(self, trainer: Trainer) -> None:
        with ExitStack() as closing:  # closes every writer even if one of them fails
            for writer in self._writers:
                closing.callback(writer.close)

    def _write(self, trainer: Trainer, *, with_summary: bool) -> None:
        iteration, events = trainer.iteration, trainer.events
        for index, (writer, written) in enumerate(zip(self._writers, self._written, strict=True)):
            entries = events.evaluations(after=written)
            if with_summary and iteration > written:
                summary = events.summary(after=window_start(iteration, period=self._period))
                entries[iteration] = {**summary, **entries.get(iteration, {})}
            if entries:
                writer.write(entries)
                self._written[index] = iteration
