"""Checkpoints in the output folder of a run: names, ownership and retention."""

from __future__ import annotations

import logging
import os
import re
from pathlib import Path

from dl_lib.checkpoint.checksums import checksum_path
from dl_lib.checkpoint.earlier_run import is_being_archived
from dl_lib.checkpoint.errors import UnreadableCheckpointError
from dl_lib.utils.files import PARTIAL_SUFFIX, open_regular, write_atomically
from dl_lib.utils.run_files import (
    BEST_CHECKPOINT,
    CHECKPOINT_SUFFIX,
    CHECKSUM_SUFFIX,
    FINAL_CHECKPOINT,
    LAST_CHECKPOINT_NAME,
)

__all__ = ["RunFolder", "is_resumable"]

_MAX_NAME_BYTES = 4096  # more than the longest file name
_NUMBERED = re.compile(r"model_(\d{7,})")
_CHECKPOINT = re.compile(rf"({_NUMBERED.pattern}|{FINAL_CHECKPOINT}|{BEST_CHECKPOINT}){re.escape(CHECKPOINT_SUFFIX)}")

_log = logging.getLogger(__name__)


class RunFolder:
    """Checkpoint files of a run, identified by name only; their content is not validated.

    Checkpoints of an earlier run that a killed process was moving away are not the run's; see `archive_earlier_run`.

    Args:
        path: Output folder of the run; need not exist.
    """

    def __init__(self, path: str) -> None:
        self.path = path

    def join(self, file_name: str) -> str:
        return os.path.join(self.path, file_name)

    def tagged(self) -> str | None:
        """Return the content of `last_checkpoint`, which may be invalid; None if the file does not exist."""
        return None if is_being_archived(Path(self.path)) else self._read(LAST_CHECKPOINT_NAME)

    def tag(self, file_name: str) -> None:
        """Record a file name in `last_checkpoint` atomically."""
        write_atomically(self.join(LAST_CHECKPOINT_NAME), file_name)

    def checkpoints(self) -> set[str]:
        """Return the names of the current run's checkpoint files."""
        if is_being_archived(Path(self.path)):
            return set()
        return {name for name in self._listing() if _CHECKPOINT.fullmatch(name)}

    def numbered(self) -> dict[int, str]:
        """Return the current run's numbered checkpoints, {iteration: file name}, newest first."""
        found = {int(match[1]): name for name in self.checkpoints() if (match := _NUMBERED.match(name))}
        return dict(sorted(found.items(), reverse=True))

    def holds_run(self) -> bool:
        """Return whether the folder holds a checkpoint to resume from, or `last_checkpoint` claims that it does."""
        return self.tagged() is not None or any(map(is_resumable, self.checkpoints()))

    def prune(self, *, iteration: int, keep_last: int, keep_every: int) -> None:
        """Delete old numbered checkpoints after a newer one is on disk.

        Only checkpoints that this run is known to have written are deleted: `model_<iteration>.pth` with a checksum
        file. Checkpoints of later iterations, left after resuming from an older one, are neither counted nor deleted. A
        checkpoint is deleted before its checksum file, so that a process killed in between leaves only a file that
        `remove_leftovers` recognises.

        Args:
            iteration: Completed iterations; their checkpoint must be on disk.
            keep_last: Number of newest checkpoints to keep, including the current one; 0 keeps all.
            keep_every: Also keep checkpoints at multiples of this many iterations; 0 for none.
        """
        if keep_last == 0:
            return
        reached = {at: name for at, name in self.numbered().items() if at <= iteration}
        for at in list(reached)[keep_last:]:
            path = self.join(reached[at])
            if (keep_every and at % keep_every == 0) or not os.path.exists(checksum_path(path)):
                continue
            if _removed(path) and _removed(checksum_path(path)):
                _log.info("Deleted checkpoint %s", path)

    def remove_leftovers(self) -> None:
        """Delete partial files and orphaned checksum files of a process that was killed while saving."""
        names = self._listing()
        for name in names:
            if (_is_partial(name) or _is_orphan(name, names)) and _removed(self.join(name)):
                _log.info("Deleted leftover of an interrupted save: %s", self.join(name))

    def _read(self, file_name: str) -> str | None:
        path = self.join(file_name)
        try:
            with open_regular(path) as file:
                return file.read(_MAX_NAME_BYTES).decode(errors="replace").strip()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _unreadable(error, path=path) from error

    def _listing(self) -> set[str]:
        try:
            with os.scandir(self.path) as entries:
                return {entry.name for entry in entries if entry.is_file()}
        except FileNotFoundError:
            return set()
        except OSError as error:
            raise _unreadable(error, path=self.path) from error


def is_resumable(file_name: str) -> bool:
    """Return whether a name is that of a numbered or the final checkpoint; runs do not resume from the best one."""
    return _CHECKPOINT.fullmatch(file_name) is not None and file_name != BEST_CHECKPOINT + CHECKPOINT_SUFFIX


def _is_partial(name: str) -> bool:
    target = name.removesuffix(PARTIAL_SUFFIX)
    known = target == LAST_CHECKPOINT_NAME or _CHECKPOINT.fullmatch(target.removesuffix(CHECKSUM_SUFFIX))
    return target != name and bool(known)


def _is_orphan(name: str, others: set[str]) -> bool:
    checkpoint = name.removesuffix(CHECKSUM_SUFFIX)
    return checkpoint != name and _CHECKPOINT.fullmatch(checkpoint) is not None and checkpoint not in others


def _removed(path: str) -> bool:
    """Delete a file and return whether it is gone; a failure only costs disk space, so it is logged and not raised."""
    try:
        os.remove(path)
    except FileNotFoundError:
        return True
    except OSError as error:
        _log.warning("Could not delete %s: %s", path, error.strerror or error)
        return False
    return True


def _unreadable(error: OSError, *, path: str) -> UnreadableCheckpointError:
    return UnreadableCheckpointError(
        f"cannot search for checkpoints: {error.strerror or error}. Make the folder readable or choose another "
        f"OUTPUT_DIR. Received: path={path!r}"
    )
