"""Pictures of what the model does, while it trains."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from dl_lib.engine.training.hook import PeriodicHook
from dl_lib.engine.training.random_state import preserve_random_state
from dl_lib.engine.training.writers import Writer

if TYPE_CHECKING:
    from dl_lib.engine.training.trainer import Trainer
    from dl_lib.evaluation.report.canvas import Picture

__all__ = ["PeriodicVisualizer"]


class PeriodicVisualizer(PeriodicHook):
    """Draws every so many iterations and at the end, and hands the pictures to writers; the main process alone has it.

    Belongs before the hook that opens and closes the writers, which should write in the same iterations: a resumed run
    makes anew what is in TensorBoard from its last scalars on. The training does not notice: random numbers come as if
    nothing had been drawn.

    Args:
        draw: returns pictures by name; leaves the model in the mode that it found it in.
        writers: where to.
        period: iterations between two times.
    """

    def __init__(self, draw: Callable[[], Mapping[str, Picture]], writers: Sequence[Writer], *, period: int) -> None:
        super().__init__(period=period)
        self._draw = draw
        self._writers = writers

    def run(self, trainer: Trainer) -> None:
        with preserve_random_state():
            pictures = self._draw()
        for writer in self._writers:
            for name, picture in pictures.items():
                writer.write_image(name, picture, iteration=trainer.iteration)
