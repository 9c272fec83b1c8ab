"""Periodic evaluation during training."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from dl_lib.engine.training.hook import PeriodicHook
from dl_lib.utils import comm

if TYPE_CHECKING:
    from dl_lib.engine.training.trainer import Trainer

__all__ = ["EvalHook"]


class EvalHook(PeriodicHook):
    """Hook that evaluates periodically and at the end, and records the finite metrics in the trainer's events.

    All processes evaluate. Metrics that are NaN, such as those of classes absent from the data, are not recorded.

    Args:
        evaluate: Function that returns metrics by name and restores the model's training mode.
        period: Iterations between two evaluations; 0 evaluates only at the end.
    """

    def __init__(self, evaluate: Callable[[], Mapping[str, float]], *, period: int) -> None:
        super().__init__(period=period)
        self._evaluate = evaluate

    def run(self, trainer: Trainer) -> None:
        with trainer.interruptible():
            metrics = self._evaluate()
        trainer.events.put(metrics, kind="evaluation")
        comm.synchronize()  # waiting for slower processes here keeps it out of the next step's time
