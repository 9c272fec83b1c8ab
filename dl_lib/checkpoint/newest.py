"""Search for the newest valid checkpoint of a run."""

from __future__ import annotations

import logging
import math
import os
from typing import Any

from dl_lib.checkpoint.errors import CheckpointError, UnreadableCheckpointError
from dl_lib.checkpoint.files import read_checkpoint
from dl_lib.checkpoint.folder import RunFolder
from dl_lib.utils.names import is_safe_id
from dl_lib.utils.run_files import CHECKPOINT_SUFFIX, FINAL_CHECKPOINT, LAST_CHECKPOINT_NAME

__all__ = ["find_newest", "read_if_valid"]

_log = logging.getLogger(__name__)


def find_newest(folder: RunFolder) -> tuple[str, dict[str, Any]]:
    """Return path and content of the newest valid checkpoint of a run; log a warning for each invalid one.

    The checkpoint named in `last_checkpoint` has precedence: it is the newest completed save, or the user's choice.
    If it is invalid or unknown, the others follow by the iteration in their names. The final checkpoint is ordered by
    the iteration stored in it, as an extended run continues beyond it; without a stored iteration it comes first.

    Raises:
        CheckpointError: If no checkpoint is valid. Training from scratch instead could overwrite recoverable files.
        UnreadableCheckpointError: If the operating system refuses to read a checkpoint, which may be valid.
    """
    skipped: list[str] = []

    def read(name: str) -> dict[str, Any] | None:
        if name in skipped:
            return None
        content = read_if_valid(folder.join(name))
        if content is None:
            skipped.append(name)
        return content

    tagged = _tagged(folder)
    if tagged and (content := read(tagged)):
        return folder.join(tagged), content
    final_name = FINAL_CHECKPOINT + CHECKPOINT_SUFFIX
    final = read(final_name) if final_name in folder.checkpoints() else None
    stored = -1 if final is None else final.get("iteration")
    reached = stored if isinstance(stored, int) else math.inf
    for iteration, name in folder.numbered().items():
        if iteration > reached and (content := read(name)):
            return folder.join(name), content
    if final:
        return folder.join(final_name), final
    raise CheckpointError(
        f"no valid checkpoint to resume from; the preceding warnings give the reasons. Restore one of the files, "
        f"start from other weights without --resume, or empty the folder to train from scratch. "
        f"Received: path={folder.path!r}, skipped={skipped}"
    )


def read_if_valid(path: str) -> dict[str, Any] | None:
    """Return the content of a checkpoint; log a warning with the reason and return None if it is invalid.

    Raises:
        UnreadableCheckpointError: If the operating system refuses to read it.
    """
    try:
        return read_checkpoint(path)
    except UnreadableCheckpointError:
        raise
    except CheckpointError as error:
        _log.warning("Skipped invalid checkpoint %s: %s", os.path.basename(path), error)
        return None


def _tagged(folder: RunFolder) -> str | None:
    """Return the file name in `last_checkpoint`; log a warning and return None if there is none."""
    name = folder.tagged()
    if name is None:
        _log.warning("%s not found; choosing the newest checkpoint by file name", LAST_CHECKPOINT_NAME)
    elif "/" in name or not is_safe_id(name):
        _log.warning("Skipped invalid %s: expected a file name without folder, found %.80r", LAST_CHECKPOINT_NAME, name)
        return None
    return name
