"""Evaluating while training."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from dl_lib.engine.training.hook import PeriodicHook
from dl_lib.utils import comm

if TYPE_CHECKING:
    from dl_lib.engine.training.trainer import Trainer

__all__ = ["EvalHook"]


class EvalHook(PeriodicHook):
    """Calls a function every so many iterations and at the end, and puts what it returns into the events.

    Every process calls it. Scores that are not numbers (of classes that the data does not hold) are left out.

    Args:
        evaluate: returns scores by name; leaves the model in the mode that it found it in.
        period: iterations between two evaluations; 0 evaluates at the end only.
    """

    def __init__(self, evaluate: Callable[[], Mapping[str, float]], *, period: int) -> None:
        super().__init__(period=period)
        self._evaluate = evaluate

    def run(self, trainer: Trainer) -> None:
        with trainer.interruptible():
            scores = self._evaluate()
        trainer.events.put({name: score for name, score in scores.items() if math.isfinite(score)}, is_eval=True)
        comm.synchronize()  # none trains on while others still evaluate: they would wait for it in the next step
