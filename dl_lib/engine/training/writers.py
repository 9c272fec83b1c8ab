"""Writers of scalars and images: JSON lines and TensorBoard."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dl_lib.utils.events import EventStorage
from dl_lib.utils.files import write_atomically

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from torch.utils.tensorboard import SummaryWriter

__all__ = ["JSONWriter", "TensorBoardWriter", "Writer"]


class Writer:
    """Base class of writers of the scalars in an `EventStorage`."""

    def open(self, *, iteration: int, written: int) -> int:
        """Prepare for writing, and discard entries after `iteration`, which the resumed run repeats.

        Args:
            iteration: Iteration that the run resumes from.
            written: Iteration up to which all scalars had been written when the checkpoint was saved.

        Returns:
            Iteration up to which all scalars are written now; later ones in the restored events are still to be
            written.
        """
        return written

    def write(self, events: EventStorage, *, since: int) -> None:
        """Write the scalars recorded after iteration `since`, each at its own iteration."""
        raise NotImplementedError

    def write_image(self, name: str, image: npt.NDArray[np.uint8], *, iteration: int) -> None:
        """Write an RGB image (H, W, 3), if the writer supports images."""

    def close(self) -> None:
        """Release resources; also called after an error, and without `open`."""


class JSONWriter(Writer):
    """Writer of one JSON object per line: `iteration` (completed steps) and the unsmoothed scalars of that iteration.

    Most scalars are written once per writing period; evaluation metrics are written at their own iteration.

    Args:
        path: File to append to; on resume, lines up to the current iteration are kept.
    """

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)

    def open(self, *, iteration: int, written: int) -> int:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        if not self._path.exists():
            return written
        kept = [line for line in self._path.read_text().splitlines() if _iteration_of(line) <= iteration]
        write_atomically(self._path, "".join(f"{line}\n" for line in kept))
        return int(_iteration_of(kept[-1])) if kept else written

    def write(self, events: EventStorage, *, since: int) -> None:
        entries = [{"iteration": iteration, **scalars} for iteration, scalars in events.since(since).items()]
        lines = "".join(json.dumps(entry, allow_nan=False) + "\n" for entry in entries)
        with self._path.open("a") as file:  # closed after each write, so that a killed run loses no line
            file.write(lines)


class TensorBoardWriter(Writer):
    """Writer of TensorBoard scalars and images; the step is the number of completed optimizer steps.

    Args:
        log_dir: Folder of the event files.
    """

    def __init__(self, log_dir: str | Path) -> None:
        self._log_dir = Path(log_dir)
        self._writer: SummaryWriter | None = None

    def open(self, *, iteration: int, written: int) -> int:
        from torch.utils.tensorboard import SummaryWriter  # takes a second to import

        self._writer = SummaryWriter(str(self._log_dir), purge_step=written + 1)
        return written

    def write(self, events: EventStorage, *, since: int) -> None:
        assert self._writer is not None, "opened before writing"
        for iteration, scalars in events.since(since).items():
            for name, value in scalars.items():
                self._writer.add_scalar(name, value, iteration)
        self._writer.flush()  # a checkpoint saved next states that these scalars are written

    def write_image(self, name: str, image: npt.NDArray[np.uint8], *, iteration: int) -> None:
        assert self._writer is not None, "opened before writing"
        self._writer.add_image(name, image, iteration, dataformats="HWC")

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None


def _iteration_of(line: str) -> float:
    """Return the iteration of a line, or infinity for a truncated line."""
    try:
        entry: Any = json.loads(line)
        return entry["iteration"]
    except (json.JSONDecodeError, KeyError, TypeError):
        return float("inf")
