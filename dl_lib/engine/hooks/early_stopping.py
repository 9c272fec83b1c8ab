"""Ending a training that gets no better."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from dl_lib.config.choices import MetricMode
from dl_lib.engine.hooks.metric_tracker import is_better, tracked_metric
from dl_lib.engine.training.hook import Hook

if TYPE_CHECKING:
    from dl_lib.engine.training.trainer import Trainer

__all__ = ["EarlyStopping"]

_log = logging.getLogger(__name__)


class EarlyStopping(Hook):
    """Ends the training when a score has not become better for so many evaluations, one after the other.

    All processes see the same scores, and so end after the same step. A run that has ended like this stays at its end
    when it is resumed, unless it is given more patience.

    Belongs after the hook that evaluates.

    Args:
        metric: name of one of the scores that the evaluation puts into the trainer's events.
        mode: whether higher or lower values are better.
        patience: evaluations without a better score.
        min_delta: a score is better only if it is so by more than this.
    """

    def __init__(self, *, metric: str, mode: MetricMode, patience: int, min_delta: float = 0.0) -> None:
        self._metric = metric
        self._mode = mode
        self._patience = patience
        self._min_delta = min_delta
        self._best: float | None = None
        self._without_better = 0

    def before_train(self, trainer: Trainer) -> None:
        if trainer.iteration < trainer.max_iter:
            self._stop_if_hopeless(trainer)

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
            self._best, self._without_better = value, 0
        else:
            self._without_better += 1
        if trainer.iteration < trainer.max_iter:
            self._stop_if_hopeless(trainer)

    def state_dict(self) -> dict[str, Any]:
        """How far the patience is used up, for this metric."""
        return {
            "metric": self._metric,
            "mode": self._mode,
            "best": self._best,
            "without_better": self._without_better,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes it over, unless another metric is looked at now."""
        if (state.get("metric"), state.get("mode")) == (self._metric, self._mode):
            self._best, self._without_better = state["best"], state["without_better"]

    def _stop_if_hopeless(self, trainer: Trainer) -> None:
        if self._without_better >= self._patience:
            _log.info(
                "%s has not become better than %.6g in %d evaluations: the training ends after %d of %d iterations",
                self._metric,
                self._best,
                self._without_better,
                trainer.iteration,
                trainer.max_iter,
            )
            trainer.stop_after_step()
