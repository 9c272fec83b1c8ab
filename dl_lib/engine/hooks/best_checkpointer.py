"""Checkpoint of the best evaluation metric."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from dl_lib.checkpoint import Checkpointer
from dl_lib.config.choices import MetricMode
from dl_lib.engine.hooks.metric_tracker import is_better, tracked_metric
from dl_lib.engine.training.hook import Hook
from dl_lib.utils import comm
from dl_lib.utils.run_files import BEST_CHECKPOINT

if TYPE_CHECKING:
    from dl_lib.engine.training.trainer import Trainer

__all__ = ["BestCheckpointer"]

_log = logging.getLogger(__name__)


class BestCheckpointer(Hook):
    """Hook that saves model_best.pth whenever an evaluation improves on the best value of a metric.

    The file holds a full checkpoint plus "best": the metric's name, value and iteration. On resume, the best value is
    read from the file rather than from the hook's state, because the checkpoint resumed from may be older than the
    file, or the file may have been deleted. A worse model therefore never replaces it.

    Must come after the hook that evaluates.

    Args:
        checkpointer: Checkpointer of the run.
        metric: Name of an evaluation metric in the trainer's events.
        mode: Whether higher (max) or lower (min) values are better.
    """

    def __init__(self, checkpointer: Checkpointer, *, metric: str, mode: MetricMode = "max") -> None:
        self._checkpointer = checkpointer
        self._metric = metric
        self._mode = mode
        self._best: dict[str, Any] = {}  # metric, value and iteration

    def before_train(self, trainer: Trainer) -> None:
        if trainer.iteration == 0:
            return
        best = self._checkpointer.read_own(BEST_CHECKPOINT).get("best") if comm.is_main_process() else None
        best = comm.broadcast(best)  # saving is collective, so all processes must agree on the best value
        if not isinstance(best, dict) or best.get("metric") != self._metric:
            return
        if isinstance(best.get("value"), float):
            self._best = best
        else:
            _log.warning("Ignored the best value in %s, which is no number: %.80r", BEST_CHECKPOINT, best.get("value"))

    def after_step(self, trainer: Trainer) -> None:
        seen_before = bool(self._best)
        value = tracked_metric(trainer.events, self._metric, key="SOLVER.BEST_METRIC", seen_before=seen_before)
        if value is None or not is_better(value, self._best.get("value"), mode=self._mode):
            return
        self._best = {"metric": self._metric, "value": value, "iteration": trainer.iteration}
        trainer.gather_state()
        _log.info("New best %s at iteration %d: %.6g", self._metric, trainer.iteration, value)
        if comm.is_main_process():
            self._checkpointer.save(BEST_CHECKPOINT, last=False, iteration=trainer.iteration, best=self._best)

    def after_train(self, trainer: Trainer) -> None:
        self.after_step(trainer)
