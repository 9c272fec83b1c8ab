"""Where the run's scalars are written: JSON for programs, TensorBoard for curves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dl_lib.utils.events import EventStorage
from dl_lib.utils.files import write_atomically

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

    from dl_lib.evaluation.report.canvas import Picture

__all__ = ["JSONWriter", "TensorBoardWriter", "Writer"]


class Writer:
    """Writes scalars of an `EventStorage` somewhere, and pictures where there is a place for them."""

    def open(self, *, iteration: int, written: int) -> int:
        """Before the first write. What an earlier run wrote from after `iteration` is dropped: it will come again.

        Args:
            iteration: from which the run goes on.
            written: up to where everything was written when it was saved.

        Returns:
            Up to where everything is there now; what the saved run knew from later on is to be written.
        """
        return written

    def write(self, events: EventStorage, *, since: int) -> None:
        """Writes what came in after iteration `since`, each value under the iteration that it is from."""
        raise NotImplementedError

    def write_image(self, name: str, picture: Picture, *, iteration: int) -> None:
        """Writes a picture of this iteration; leaves it out where there is only place for scalars."""

    def close(self) -> None:
        """After the last write, or after an error in between; also where `open` was never reached."""


class JSONWriter(Writer):
    """One JSON object in each line: `iteration` (steps done) and the values of that iteration, unsmoothed.

    Most scalars are in the lines of the writing period only; an evaluation's scores are in that of their own iteration.

    Args:
        path: the file; an earlier run's lines up to the present iteration stay.
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
        with self._path.open("a") as file:  # closed each time: a killed run loses no line
            file.write(lines)


class TensorBoardWriter(Writer):
    """TensorBoard scalars and pictures; the step is the number of optimizer steps done when the value came in.

    Args:
        log_dir: folder that the event files are written into.
    """

    def __init__(self, log_dir: str | Path) -> None:
        self._log_dir = Path(log_dir)
        self._writer: SummaryWriter | None = None

    def open(self, *, iteration: int, written: int) -> int:
        from torch.utils.tensorboard import SummaryWriter  # takes a second to import

        self._writer = SummaryWriter(str(self._log_dir), purge_step=written + 1)
        return written

    def write(self, events: EventStorage, *, since: int) -> None:
        assert self._writer is not None, "opened before it is written to"
        for iteration, scalars in events.since(since).items():
            for name, value in scalars.items():
                self._writer.add_scalar(name, value, iteration)
        self._writer.flush()  # as a checkpoint may count on it

    def write_image(self, name: str, picture: Picture, *, iteration: int) -> None:
        assert self._writer is not None, "opened before it is written to"
        self._writer.add_image(name, picture, iteration, dataformats="HWC")

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None


def _iteration_of(line: str) -> float:
    """The iteration of a line of metrics; of a line that was cut off, one that never comes."""
    try:
        entry: Any = json.loads(line)
        return entry["iteration"]
    except (json.JSONDecodeError, KeyError, TypeError):
        return float("inf")
