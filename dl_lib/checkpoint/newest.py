"""Search for the newest valid checkpoint of a run."""

from __future__ import annotations

import logging
import math
import os
from dataclasses import dataclass
from typing import Any

from dl_lib.checkpoint.errors import CheckpointError, UnreadableCheckpointError
from dl_lib.checkpoint.files import read_checkpoint
from dl_lib.checkpoint.folder import RunFolder
from dl_lib.utils.run_files import CHECKPOINT_SUFFIX, FINAL_CHECKPOINT, LAST_CHECKPOINT_NAME

__all__ = ["FoundCheckpoint", "find_newest", "read_if_valid"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class FoundCheckpoint:
    """Valid checkpoint and its content.

    Attributes:
        path: Checkpoint file.
        content: Return value of `read_checkpoint`.
    """

    path: str
    content: dict[str, Any]


def find_newest(folder: RunFolder) -> FoundCheckpoint:
    """Read the newest valid checkpoint of a run, with a warning for each invalid one that is skipped.

    The checkpoint named in `last_checkpoint` has precedence: it is the newest completed save, or the user's choice.
    If it is invalid or unknown, the others follow by the iteration in their names. The final checkpoint is ordered by
    the iteration stored in it, as an extended run continues beyond it; without a stored iteration it comes first.

    Raises:
        CheckpointError: If no checkpoint is valid. Training from scratch instead could overwrite recoverable files.
        UnreadableCheckpointError: If the operating system refuses to read a checkpoint, which may be valid.
    """
    search = _Search(folder)
    found = search.tagged() or search.by_iteration()
    if found is None:
        raise CheckpointError(
            f"no valid checkpoint to resume from; the preceding warnings give the reasons. Restore one of the files, "
            f"start from other weights without --resume, or empty the folder to train from scratch. "
            f"Received: path={folder.path!r}, skipped={search.skipped}"
        )
    return found


def read_if_valid(path: str) -> FoundCheckpoint | None:
    """Read a checkpoint; return None and log a warning with the reason if it is invalid.

    Raises:
        UnreadableCheckpointError: If the operating system refuses to read it.
    """
    try:
        return FoundCheckpoint(path, read_checkpoint(path))
    except UnreadableCheckpointError:
        raise
    except CheckpointError as error:
        _log.warning("Skipped invalid checkpoint %s: %s", os.path.basename(path), error)
        return None


def _iteration(final: FoundCheckpoint) -> float:
    """Return the iteration stored in the final checkpoint; infinity if there is none."""
    iteration = final.content.get("iteration")
    return iteration if isinstance(iteration, int) else math.inf


class _Search:
    """Search state: files that were already skipped are neither read nor reported twice."""

    def __init__(self, folder: RunFolder) -> None:
        self.skipped: list[str] = []
        self._folder = folder

    def tagged(self) -> FoundCheckpoint | None:
        """Return the checkpoint named in `last_checkpoint`, if it is valid."""
        name = self._folder.tagged()
        if name is None:
            _log.warning("%s not found; choosing the newest checkpoint by file name", LAST_CHECKPOINT_NAME)
            return None
        if not name or os.path.basename(name) != name:
            _log.warning("Skipped %s: not the name of a file in its folder: %.80r", LAST_CHECKPOINT_NAME, name)
            return None
        return self._read(name)

    def by_iteration(self) -> FoundCheckpoint | None:
        """Return the newest valid checkpoint of the run by iteration."""
        final_name = FINAL_CHECKPOINT + CHECKPOINT_SUFFIX
        final = self._read(final_name) if final_name in self._folder.own() else None
        reached = -1 if final is None else _iteration(final)
        for iteration, name in self._folder.numbered().items():
            if iteration <= reached:
                break
            if found := self._read(name):
                return found
        return final

    def _read(self, name: str) -> FoundCheckpoint | None:
        if name in self.skipped:
            return None
        found = read_if_valid(self._folder.join(name))
        if found is None:
            self.skipped.append(name)
        return found
