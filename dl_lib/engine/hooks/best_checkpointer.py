"""Saving the best model that an evaluation has met so far."""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

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


@dataclass(frozen=True)
class _Record:
    """The best value so far, and after how many iterations it was met."""

    metric: str
    value: float
    iteration: int


class BestCheckpointer(Hook):
    """Saves model_best.pth whenever an evaluation gives a better value of a metric than all before it.

    The file holds everything that the others do, and under "best" the metric's name, its value and the iteration.
    A resumed run reads the best value there, so that the file is never replaced by a worse one. It is not kept in a
    state of the hook: the checkpoint that a run goes on from may be older than the file, or the file may be gone.

    Belongs after the hook that evaluates.

    Args:
        checkpointer: knows what is saved and where.
        metric: name of one of the scores that the evaluation puts into the trainer's events.
        mode: whether higher or lower values are better.
    """

    def __init__(self, checkpointer: Checkpointer, *, metric: str, mode: MetricMode = "max") -> None:
        self._checkpointer = checkpointer
        self._metric = metric
        self._mode = mode
        self._best: _Record | None = None

    def before_train(self, trainer: Trainer) -> None:
        if trainer.iteration == 0:
            return
        best = self._checkpointer.read_own(BEST_CHECKPOINT).get("best") if comm.is_main_process() else None
        best = comm.broadcast(best) or {}  # all have to agree on what is better, as all take part in a save
        if best.get("metric") == self._metric:
            self._best = _Record(**best)

    def after_step(self, trainer: Trainer) -> None:
        self._look(trainer)

    def after_train(self, trainer: Trainer) -> None:
        self._look(trainer)

    def _look(self, trainer: Trainer) -> None:
        best = None if self._best is None else self._best.value
        value = tracked_metric(
            trainer.events, self._metric, key="SOLVER.BEST_METRIC", seen_before=self._best is not None
        )
        if value is not None and is_better(value, best, mode=self._mode):
            self._save(trainer, record=_Record(self._metric, value=value, iteration=trainer.iteration))

    def _save(self, trainer: Trainer, *, record: _Record) -> None:
        self._best = record
        trainer.gather_state()
        _log.info("the best %s so far: %.6g, after iteration %d", record.metric, record.value, record.iteration)
        if comm.is_main_process():
            self._checkpointer.save(BEST_CHECKPOINT, last=False, iteration=record.iteration, best=asdict(record))
