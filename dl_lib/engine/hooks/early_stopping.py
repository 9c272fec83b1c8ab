"""Early stopping on an evaluation metric."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from dl_lib.checkpoint.state_check import check_state
from dl_lib.config.choices import MetricMode
from dl_lib.engine.hooks.metric_tracker import is_better, tracked_metric
from dl_lib.engine.training.hook import Hook

if TYPE_CHECKING:
    from dl_lib.engine.training.trainer import Trainer

__all__ = ["EarlyStopping"]

_log = logging.getLogger(__name__)


class EarlyStopping(Hook):
    """Hook that ends training when a metric has not improved for `patience` consecutive evaluations.

    All processes have the same metrics and stop after the same step. A run that was stopped early stops again when it
    is resumed, unless the patience is increased.

    Must come after the hook that evaluates.

    Args:
        metric: Name of an evaluation metric in the trainer's events.
        mode: Whether higher (max) or lower (min) values are better.
        patience: Evaluations without improvement.
        min_delta: Minimum difference that counts as an improvement.
    """

    def __init__(self, *, metric: str, mode: MetricMode, patience: int, min_delta: float = 0.0) -> None:
        self._metric = metric
        self._mode = mode
        self._patience = patience
        self._min_delta = min_delta
        self._best: float | None = None
        self._without_improvement = 0

    def before_train(self, trainer: Trainer) -> None:
        if trainer.iteration < trainer.max_iter:
            self._stop_if_exhausted(trainer)

    def after_step(self, trainer: Trainer) -> None:
        value = tracked_metric(
            trainer.events,
            self._metric,
            key="SOLVER.EARLY_STOPPING.METRIC",
            seen_before=self._best is not None,
        )
        if value is None:
            return
        if is_better(value, self._best, mode=self._mode, min_delta=self._min_delta):
            self._best, self._without_improvement = value, 0
        else:
            self._without_improvement += 1
        if trainer.iteration < trainer.max_iter:
            self._stop_if_exhausted(trainer)

    def state_dict(self) -> dict[str, Any]:
        """Return the metric, its best value and the number of evaluations without improvement."""
        return {
            "metric": self._metric,
            "mode": self._mode,
            "best": self._best,
            "without_improvement": self._without_improvement,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load a state returned by `state_dict`; a state of another metric or mode is ignored."""
        if (state.get("metric"), state.get("mode")) == (self._metric, self._mode):
            if state["best"] is not None:
                check_state(state["best"], like=0.0, name="EarlyStopping.best")
            self._best, self._without_improvement = state["best"], state["without_improvement"]

    def _stop_if_exhausted(self, trainer: Trainer) -> None:
        if self._without_improvement >= self._patience:
            _log.info(
                "Early stopping at iteration %d/%d: %s has not improved on %.6g in %d evaluations",
                trainer.iteration,
                trainer.max_iter,
                self._metric,
                self._best,
                self._without_improvement,
            )
            trainer.stop_after_step()
