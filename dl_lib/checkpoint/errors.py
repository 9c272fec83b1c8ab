"""Checkpoint errors: user errors, reported without a traceback."""

from __future__ import annotations

from dl_lib.utils.files import NO_SPACE

__all__ = ["CheckpointError", "NoSpaceError", "UnreadableCheckpointError", "write_error"]


class CheckpointError(ValueError):
    """Missing, damaged, unsafe or incompatible checkpoint, or one that cannot be written."""


class UnreadableCheckpointError(CheckpointError):
    """File or folder that the operating system refuses to read; the checkpoint itself may be valid."""


class NoSpaceError(CheckpointError):
    """Disk or quota too small for a checkpoint; older checkpoints are unchanged."""


def write_error(error: OSError, *, path: str) -> CheckpointError:
    """Return the user error for an operating system error during the write of a checkpoint."""
    reason = error.strerror or error
    if error.errno in NO_SPACE:
        return NoSpaceError(
            f"no space left to write the checkpoint ({reason}). The partial file was removed, and older checkpoints "
            f"are unchanged. Free space, keep fewer checkpoints (SOLVER.CHECKPOINT_KEEP_LAST) or use another disk, "
            f"and continue with --resume. Received: path={path!r}"
        )
    return CheckpointError(
        f"the checkpoint could not be written: {reason}. Older checkpoints are unchanged. Fix the cause or write to "
        f"another folder. Received: path={path!r}"
    )
