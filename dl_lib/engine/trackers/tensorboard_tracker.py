"""TensorBoard as an experiment tracker."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dl_lib.config import CfgNode
from dl_lib.engine.trackers.registry import TRACKER_REGISTRY, HParam, Tracker
from dl_lib.utils.files import write_errors

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from torch.utils.tensorboard import SummaryWriter

__all__ = ["TensorBoardTracker"]


class TensorBoardTracker(Tracker):
    """Tracker that writes TensorBoard events; events of iterations that a resumed run repeats are discarded.

    Args:
        log_dir: Folder of the event files.
    """

    def __init__(self, log_dir: str | Path) -> None:
        self._log_dir = Path(log_dir)
        self._hparams: Mapping[str, HParam] = {}
        self._writer: SummaryWriter | None = None
        self._hook_before = threading.excepthook

    def open(self, *, run_id: str | None, written: int, hparams: Mapping[str, HParam]) -> None:
        from torch.utils.tensorboard import SummaryWriter  # takes a second to import

        self._hparams = hparams
        self._hook_before = threading.excepthook
        threading.excepthook = partial(_print_unless_passed_on, self._hook_before)
        with self._write_errors():
            self._writer = SummaryWriter(str(self._log_dir), purge_step=written + 1)

    def write(self, metrics: Mapping[str, float], *, iteration: int) -> None:
        assert self._writer is not None, "opened before writing"
        with self._write_errors():
            for name, value in metrics.items():
                self._writer.add_scalar(name, value, iteration)
            self._writer.flush()  # a checkpoint saved next states that these scalars are written

    def write_image(self, name: str, image: npt.NDArray[np.uint8], *, iteration: int) -> None:
        assert self._writer is not None, "opened before writing"
        with self._write_errors():
            self._writer.add_image(name, image, iteration, dataformats="HWC")

    def write_final(self, metrics: Mapping[str, float], *, iteration: int) -> None:
        from torch.utils.tensorboard.summary import hparams

        assert self._writer is not None and self._writer.file_writer is not None, "opened before writing"
        with self._write_errors():
            # `SummaryWriter.add_hparams` would write the metrics a second time.
            for summary in hparams(dict(self._hparams), dict(metrics)):
                self._writer.file_writer.add_summary(summary)
            self._writer.flush()

    def close(self, *, completed: bool) -> None:
        threading.excepthook = self._hook_before
        if self._writer is not None:
            with self._write_errors():
                self._writer.close()
            self._writer = None

    def _write_errors(self) -> AbstractContextManager[None]:
        return write_errors(self._log_dir / "events.out.tfevents")


@TRACKER_REGISTRY.register()
def tensorboard(cfg: CfgNode) -> TensorBoardTracker:
    """Build the tracker, whose event files are in the run folder."""
    return TensorBoardTracker(cfg.OUTPUT_DIR)


def _print_unless_passed_on(hook: Callable[[Any], Any], error: threading.ExceptHookArgs) -> None:
    """Print the error of a thread with a hook, except in those of TensorBoard, which raises it in the caller."""
    if not type(error.thread).__module__.startswith("tensorboard."):
        hook(error)
