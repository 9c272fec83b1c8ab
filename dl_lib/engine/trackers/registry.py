"""Interface and registry of experiment trackers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from fvcore.common.registry import Registry

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

__all__ = ["TRACKER_REGISTRY", "HParam", "Tracker"]

HParam = bool | int | float | str

TRACKER_REGISTRY = Registry("TRACKER")
TRACKER_REGISTRY.__doc__ = """Experiment trackers, the choices of `TRACKERS`: `Tracker`s, built as `make(cfg)`.

They are built and called on the main process only. An exception disables the tracker with a warning, see
`GuardedTracker`, and does not end the run.
"""


class Tracker:
    """Base class of experiment trackers; every method does nothing by default.

    An iteration is the number of completed optimizer steps, as in metrics.json. The training loop waits for each call.
    """

    def open(self, *, run_id: str | None, written: int, hparams: Mapping[str, HParam]) -> str | None:
        """Start a tracked run, or continue one after a resume.

        Args:
            run_id: Id that this method returned before the resume; None at the start of a run.
            written: Iteration up to which everything had been written when the checkpoint was saved.
            hparams: All config values by full key; lists and dicts as text.

        Returns:
            Id of the tracked run, which the run folder stores; a resumed run then writes no iteration again that was
            written before. None if the tracker has no ids and discards what it has of iterations after `written`.
        """
        return None

    def write(self, metrics: Mapping[str, float], *, iteration: int) -> None:
        """Write the metrics of an iteration; iterations ascend."""

    def write_image(self, name: str, image: npt.NDArray[np.uint8], *, iteration: int) -> None:
        """Write an RGB image (H, W, 3); called before the metrics of its iteration are written."""

    def write_final(self, metrics: Mapping[str, float], *, iteration: int) -> None:
        """Write the final metrics next to the hyperparameters, after the last iteration."""

    def close(self, *, completed: bool) -> None:
        """Release resources; also called after an error.

        Args:
            completed: Whether the run has ended with its last iteration, rather than with an error or interrupt.
        """
