"""Writers of scalars and images, and the one of metrics.json."""

from __future__ import annotations

import errno
import itertools
import json
import logging
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from dl_lib.utils.files import WriteError, flush_to_disk, write_atomically, write_errors
from dl_lib.utils.metrics_file import ITERATION, MetricsFileError, parse_line, read_lines
from dl_lib.utils.run_files import DAMAGED_METRICS_STEM

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

__all__ = ["JSONWriter", "Writer"]

_log = logging.getLogger(__name__)


class Writer:
    """Base class of writers of scalars by iteration."""

    def open(self, *, iteration: int, written: int) -> int:
        """Prepare for writing, and discard entries after `iteration`, which the resumed run repeats.

        Args:
            iteration: Iteration that the run resumes from.
            written: Iteration up to which all scalars had been written when the checkpoint was saved.

        Returns:
            Iteration up to which all scalars are written; a writer that finds later entries returns a later one.
        """
        return written

    def write(self, entries: Mapping[int, Mapping[str, float]]) -> None:
        """Write scalars by iteration, in ascending order, and name."""
        raise NotImplementedError

    def write_image(self, name: str, image: npt.NDArray[np.uint8], *, iteration: int) -> None:
        """Write an RGB image (H, W, 3), if the writer supports images."""

    def write_final(self, metrics: Mapping[str, float], *, iteration: int) -> None:
        """Write the final metrics once more, after the last iteration, if the writer has a place for them."""

    def close(self) -> None:
        """Release resources; also called after an error, and without `open`."""


class JSONWriter(Writer):
    """Writer of one JSON object per line: `iteration` (completed steps) and the scalars logged at that iteration.

    A line is written once its iteration is complete; only a repeated final evaluation replaces one. On resume, lines up
    to the current iteration are kept. If other lines are invalid, a copy of the file is kept under another name.

    Args:
        path: File to append to.
    """

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)
        self._last = 0  # iteration of the last line

    def open(self, *, iteration: int, written: int) -> int:
        try:
            lines = read_lines(self._path)
        except FileNotFoundError:
            write_atomically(self._path, "")
            return written
        except OSError as error:
            raise MetricsFileError(
                f"the metrics of this run cannot be read: {error.strerror or error}. Move the file away to continue "
                f"without the earlier metrics. Received: path={str(self._path)!r}"
            ) from error
        parsed = [parse_line(line) for line in lines]
        if None in parsed:
            self._keep_damaged(parsed.index(None) + 1, invalid=parsed.count(None))
        kept = [
            (int(scalars[ITERATION]), line)
            for line, scalars in zip(lines, parsed, strict=True)
            if scalars is not None and scalars[ITERATION] <= iteration
        ]
        write_atomically(self._path, b"".join(line + b"\n" for _, line in kept))
        self._last = max((at for at, _ in kept), default=0)
        return max(written, self._last)

    def write(self, entries: Mapping[int, Mapping[str, float]]) -> None:
        lines = [{ITERATION: iteration, **scalars} for iteration, scalars in entries.items()]
        text = "".join(f"{json.dumps(line, allow_nan=False)}\n" for line in lines)
        if not self._path.exists():
            raise WriteError(errno.ENOENT, "it was deleted during the run", str(self._path))
        if min(entries) <= self._last:
            write_atomically(self._path, self._text_before(min(entries)) + text)
        else:
            with write_errors(self._path), self._path.open("ab") as file:  # closed, so that a killed run loses no line
                file.write(text.encode())
                flush_to_disk(file)  # a checkpoint saved next states that these lines are written
        self._last = max(entries)

    def _text_before(self, iteration: int) -> str:
        """Return the lines of the file before an iteration."""
        lines = [line.decode() for line in read_lines(self._path)]
        return "".join(f"{line}\n" for line in lines if json.loads(line)[ITERATION] < iteration)

    def _keep_damaged(self, number: int, *, invalid: int) -> None:
        suffixes = itertools.chain([""], (f"_{count}" for count in itertools.count(2)))
        names = (f"{DAMAGED_METRICS_STEM}{suffix}{self._path.suffix}" for suffix in suffixes)
        copy = next(path for name in names if not (path := self._path.with_name(name)).exists())
        shutil.copyfile(self._path, copy)
        _log.warning(
            "%s contains %d invalid lines, the first is line %d; kept the valid ones, and the whole file as %s",
            self._path,
            invalid,
            number,
            copy.name,
        )
