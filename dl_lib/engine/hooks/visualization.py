"""Periodic visualization of predictions during training."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from dl_lib.engine.training.hook import PeriodicHook
from dl_lib.engine.training.random_state import preserve_random_state
from dl_lib.engine.training.writers import Writer

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from dl_lib.engine.training.trainer import Trainer

__all__ = ["PeriodicVisualizer"]


class PeriodicVisualizer(PeriodicHook):
    """Hook of the main process that draws figures periodically and at the end, and passes them to writers as images.

    Must come before the `PeriodicWriter` that opens and closes the writers. Both should use the same iterations: on
    resume, TensorBoard events after the last written scalars are discarded and drawn again. Random states are restored,
    so drawing does not affect training.

    Args:
        draw: Function that returns figures by name and restores the model's training mode.
        writers: Writers that receive the images.
        period: Iterations between two runs.
    """

    def __init__(self, draw: Callable[[], Mapping[str, Figure]], writers: Sequence[Writer], *, period: int) -> None:
        super().__init__(period=period)
        self._draw = draw
        self._writers = writers

    def run(self, trainer: Trainer) -> None:
        """Draw the figures and write them as images of the current iteration."""
        from dl_lib.visualization.figure import to_image

        with preserve_random_state():
            images = {name: to_image(figure) for name, figure in self._draw().items()}
        for writer in self._writers:
            for name, image in images.items():
                writer.write_image(name, image, iteration=trainer.iteration)
