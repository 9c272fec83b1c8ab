"""Progress bar of the training loop."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from tqdm import tqdm

from dl_lib.engine.training.hook import Hook
from dl_lib.utils.events import window_start
from dl_lib.utils.progress import progress_bar

if TYPE_CHECKING:
    from dl_lib.engine.training.trainer import Trainer

__all__ = ["ProgressBar"]


class ProgressBar(Hook):
    """Hook that shows a bar with remaining time, loss, learning rate and expected GFLOPs per image.

    Shown by the main process in a terminal only; elsewhere, the log lines of `MetricLogger` give the same values.

    Args:
        period: Iterations between two log lines; the values are medians since the latest one, as in the next line.
    """

    def __init__(self, *, period: int) -> None:
        self._period = period
        self._bar: tqdm | None = None

    def before_train(self, trainer: Trainer) -> None:
        if trainer.iteration >= trainer.max_iter:
            return  # a finished run was resumed
        self._bar = progress_bar(trainer.max_iter, description="training", unit="iteration", done=trainer.iteration)

    def after_step(self, trainer: Trainer) -> None:
        if self._bar is None:
            return
        if not self._bar.disable:
            scalars = trainer.events.summary(after=window_start(trainer.iteration, period=self._period))
            self._bar.set_postfix_str(_summary(scalars), refresh=False)
        self._bar.update()
        if trainer.iteration >= trainer.max_iter:
            self.close(trainer)  # the final evaluation shows its own bar

    def on_interrupt(self, trainer: Trainer) -> None:
        self.close(trainer)

    def close(self, trainer: Trainer) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def _summary(scalars: Mapping[str, float]) -> str:
    formats = {"total_loss": "loss {:.4f}", "learning_rate": "lr {:.3g}", "expt_gflops": "expected {:.4g} GFLOPs/image"}
    return ", ".join(text.format(scalars[name]) for name, text in formats.items() if name in scalars)
