"""Periodic evaluation during training, and selection of an evaluation metric."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from dl_lib.config import ConfigError
from dl_lib.config.choices import MetricMode
from dl_lib.engine.training.hook import PeriodicHook
from dl_lib.utils import comm
from dl_lib.utils.events import EventStorage
from dl_lib.utils.names import nearest_names

if TYPE_CHECKING:
    from dl_lib.engine.training.trainer import Trainer

__all__ = ["EvalHook", "is_better", "tracked_metric"]


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
        trainer.events.put({name: value for name, value in metrics.items() if math.isfinite(value)}, is_eval=True)
        comm.synchronize()  # waiting for slower processes here keeps it out of the next step's time


def tracked_metric(events: EventStorage, name: str, *, key: str, seen_before: bool) -> float | None:
    """Return an evaluation metric of the current iteration, or None if there was no evaluation or it is not finite.

    Args:
        events: Events of the run.
        name: Name of the metric.
        key: Config key that sets the name, for the error message.
        seen_before: Whether an earlier evaluation had this metric, so that a missing value is not a wrong name.

    Raises:
        ConfigError: If the evaluation has other metrics but never had this one.
    """
    metrics = events.current_eval_metrics()
    value = metrics.get(name)
    if metrics and value is None and not seen_before:
        raise ConfigError(
            f"{key} is not a finite metric of the evaluation; {nearest_names(name, metrics)}. Received: {key}={name!r}"
        )
    return value


def is_better(value: float, best: float | None, *, mode: MetricMode, min_delta: float = 0.0) -> bool:
    """Return whether a value improves on the best one by more than `min_delta`, or is the first."""
    sign = 1 if mode == "max" else -1
    return best is None or sign * (value - best) > min_delta
