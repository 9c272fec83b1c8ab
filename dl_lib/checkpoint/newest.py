"""The newest checkpoint of a run that is sound, whatever became of the others."""

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
    """A checkpoint that was read.

    Attributes:
        path: of the file.
        content: as of `read_checkpoint`.
    """

    path: str
    content: dict[str, Any]


def find_newest(folder: RunFolder) -> FoundCheckpoint:
    """Reads the newest checkpoint that is sound, and warns of each one that is passed over.

    The one that `last_checkpoint` names comes first: it is the newest whose save was finished, or a person chose it.
    Where it is unsound or not known, the others follow by the iteration in their names. The end of a run stands at the
    iteration inside it, as a run that was prolonged goes beyond it; an end that does not say where it is comes first.

    Raises:
        CheckpointError: if there is none that is sound. To start anew instead would write over what may be saved.
        UnreadableCheckpointError: if the system refuses to read one, which may be sound.
    """
    search = _Search(folder)
    found = search.tagged() or search.by_iteration()
    if found is None:
        raise CheckpointError(
            f"there is no sound checkpoint to go on from, and the warnings before this say why. Fetch one of them "
            f"again, start from other weights without --resume, or empty the folder to start from nothing. "
            f"Received: path={folder.path!r}, passed over: {search.passed_over}"
        )
    return found


def read_if_valid(path: str) -> FoundCheckpoint | None:
    """Reads a checkpoint; None, and a warning with the reason, if it is not sound.

    Raises:
        UnreadableCheckpointError: if the system refuses to read it.
    """
    try:
        return FoundCheckpoint(path, read_checkpoint(path))
    except UnreadableCheckpointError:
        raise
    except CheckpointError as error:
        _log.warning("passed over %s: %s", os.path.basename(path), error)
        return None


def _iteration(end: FoundCheckpoint) -> float:
    """How far a run was at its end, if that is known."""
    iteration = end.content.get("iteration")
    return iteration if isinstance(iteration, int) else math.inf


class _Search:
    """Remembers what was passed over, so that nothing is read or warned of twice."""

    def __init__(self, folder: RunFolder) -> None:
        self.passed_over: list[str] = []
        self._folder = folder

    def tagged(self) -> FoundCheckpoint | None:
        """The one that is called the last."""
        name = self._folder.tagged()
        if name is None:
            _log.warning("%s is not there: the newest is taken by its name", LAST_CHECKPOINT_NAME)
            return None
        if not name or os.path.basename(name) != name:
            _log.warning("passed over %s: it names no file of its folder, but %.80r", LAST_CHECKPOINT_NAME, name)
            return None
        return self._read(name)

    def by_iteration(self) -> FoundCheckpoint | None:
        """The newest of the run's own."""
        final = FINAL_CHECKPOINT + CHECKPOINT_SUFFIX
        end = self._read(final) if final in self._folder.own() else None
        reached = -1 if end is None else _iteration(end)
        for iteration, name in self._folder.numbered().items():
            if iteration <= reached:
                break
            if found := self._read(name):
                return found
        return end

    def _read(self, name: str) -> FoundCheckpoint | None:
        if name in self.passed_over:
            return None
        found = read_if_valid(self._folder.place(name))
        if found is None:
            self.passed_over.append(name)
        return found
