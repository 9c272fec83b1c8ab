"""Trackers as writers of a run; a tracker that fails does not end the run."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from dl_lib.config import CfgNode
from dl_lib.engine.trackers.registry import TRACKER_REGISTRY, HParam, Tracker
from dl_lib.engine.trackers.tracked_run import TrackedRun
from dl_lib.engine.training.writers import Writer
from dl_lib.utils.run_files import tracker_name

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

__all__ = ["GuardedTracker", "build_trackers"]

_MAX_ERROR_LENGTH = 500  # characters in a log line

_log = logging.getLogger(__name__)


class GuardedTracker(Writer):
    """Writer that passes everything to a tracker, until the tracker raises an exception, which is logged as a warning.

    The id of the tracked run and the iteration up to which it is written are kept in the run folder.

    Args:
        make: Function that builds the tracker; called in `open`, where it may fail as well.
        name: Name of the tracker in `TRACKERS`.
        folder: Run folder.
        hparams: Config values by full key.
    """

    def __init__(
        self, make: Callable[[], Tracker], *, name: str, folder: Path, hparams: Mapping[str, HParam] | None = None
    ) -> None:
        self._make = make
        self._name = name
        self._path = folder / tracker_name(name)
        self._hparams = hparams or {}
        self._tracker: Tracker | None = None
        self._run: TrackedRun | None = None
        self._written_before = 0  # iteration up to which the continued run is written
        self._has_failed = False
        self._is_completed = False

    def open(self, *, iteration: int, written: int) -> int:
        with self._guarded("start"):
            before = TrackedRun.read(self._path)
            self._tracker = self._make()
            run_id = self._tracker.open(
                run_id=None if before is None else before.run_id, written=written, hparams=self._hparams
            )
            if run_id is None:
                return written
            if before is not None and before.run_id == run_id:
                self._written_before = before.iteration
            self._record(TrackedRun(run_id, max(written, self._written_before)))
            _log.info("Tracking with %s as run %s", self._name, run_id)
        return max(written, self._written_before)

    def write(self, entries: Mapping[int, Mapping[str, float]]) -> None:
        def write_all(tracker: Tracker) -> None:
            for iteration, metrics in entries.items():
                tracker.write(metrics, iteration=iteration)
                if self._run is not None:
                    self._record(TrackedRun(self._run.run_id, iteration))

        self._call("write metrics", write_all)

    def write_image(self, name: str, image: npt.NDArray[np.uint8], *, iteration: int) -> None:
        if iteration > self._written_before:
            self._call("write an image", lambda tracker: tracker.write_image(name, image, iteration=iteration))

    def write_final(self, metrics: Mapping[str, float], *, iteration: int) -> None:
        self._is_completed = True
        self._call("write final metrics", lambda tracker: tracker.write_final(metrics, iteration=iteration))

    def close(self) -> None:
        if self._tracker is not None:  # closed after a failure, too
            with self._guarded("close"):
                self._tracker.close(completed=self._is_completed)

    def _call(self, action: str, call: Callable[[Tracker], None]) -> None:
        if self._tracker is not None and not self._has_failed:
            with self._guarded(action):
                call(self._tracker)

    @contextmanager
    def _guarded(self, action: str) -> Iterator[None]:
        try:
            yield
        except (Exception, SystemExit) as error:  # libraries made for commands may exit
            if not self._has_failed:
                _log.warning(
                    "Tracker %s failed to %s and is disabled until the run is resumed: %s: %s",
                    self._name,
                    action,
                    type(error).__name__,
                    f"{' '.join(str(error).split()):.{_MAX_ERROR_LENGTH}}",
                )
            self._has_failed = True

    def _record(self, run: TrackedRun) -> None:
        self._run = run
        run.write(self._path)


def build_trackers(cfg: CfgNode) -> list[Writer]:
    """Build the trackers of a config as writers; on the main process only."""
    hparams = {key: value if isinstance(value, HParam) else str(value) for key, value in cfg.flat().items()}
    return [
        GuardedTracker(
            partial(TRACKER_REGISTRY.get(name), cfg), name=name, folder=Path(cfg.OUTPUT_DIR), hparams=hparams
        )
        for name in cfg.TRACKERS
    ]
