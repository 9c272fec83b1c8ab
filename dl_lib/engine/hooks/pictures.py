"""Pictures of what the model does, while it trains."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from dl_lib.engine.hooks.base import Hook, is_due
from dl_lib.engine.random_state import random_state_kept
from dl_lib.engine.writers import Writer

if TYPE_CHECKING:
    from dl_lib.engine.trainer import Trainer
    from dl_lib.evaluation.report.canvas import Picture

__all__ = ["Pictures"]


class Pictures(Hook):
    """Draws every so many iterations and at the end, and hands the pictures to writers; the main process alone has it.

    Belongs before the hook that opens and closes the writers. The training does not notice: random numbers come as if
    nothing had been drawn.

    Args:
        draw: returns pictures by name; leaves the model in the mode that it found it in.
        writers: where to.
        period: iterations between two times.
    """

    def __init__(self, draw: Callable[[], Mapping[str, Picture]], writers: Sequence[Writer], *, period: int) -> None:
        self._draw = draw
        self._writers = writers
        self._period = period

    def after_step(self, trainer: Trainer) -> None:
        if is_due(trainer, self._period):
            self._run(trainer)

    def after_train(self, trainer: Trainer) -> None:
        self._run(trainer)

    def _run(self, trainer: Trainer) -> None:
        with random_state_kept():
            pictures = self._draw()
        for writer in self._writers:
            for name, picture in pictures.items():
                writer.write_picture(name, picture, iteration=trainer.iteration)
