"""Progress bar of the training loop."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tqdm import tqdm

from dl_lib.engine.training.hook import Hook
from dl_lib.utils.progress import progress_bar

if TYPE_CHECKING:
    from dl_lib.engine.training.trainer import Trainer

__all__ = ["ProgressBar"]

_WINDOW = 20  # iterations that the medians are taken over


class ProgressBar(Hook):
    """Hook that shows a bar with remaining time, loss, learning rate and expected GFLOPs per image.

    Shown by the main process in a terminal only; elsewhere, the log lines of `MetricLogger` give the same values.
    """

    def __init__(self) -> None:
        self._bar: tqdm | None = None

    def before_train(self, trainer: Trainer) -> None:
        if trainer.iteration >= trainer.max_iter:
            return  # a finished run was resumed
        self._bar = progress_bar(trainer.max_iter, description="training", unit="iteration", done=trainer.iteration)

    def after_step(self, trainer: Trainer) -> None:
        if self._bar is None:
            return
        if not self._bar.disable:
            self._bar.set_postfix_str(_summary(trainer), refresh=False)
        self._bar.update()
        if trainer.iteration >= trainer.max_iter:
            self.close(trainer)  # the final evaluation shows its own bar

    def on_interrupt(self, trainer: Trainer) -> None:
        self.close(trainer)

    def close(self, trainer: Trainer) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def _summary(trainer: Trainer) -> str:
    events, names = trainer.events, trainer.events.names()
    parts = [f"loss {events.median('total_loss', window=_WINDOW):.4f}"]
    if "learning_rate" in names:
        parts.append(f"lr {events.latest('learning_rate'):.3g}")
    if "expt_gflops" in names:
        parts.append(f"expected {events.median('expt_gflops', window=_WINDOW):.4g} GFLOPs/image")
    return ", ".join(parts)
