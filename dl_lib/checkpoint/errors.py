"""What can be wrong with a checkpoint, and is the user's to mend: one family, reported without a traceback."""

from __future__ import annotations

__all__ = ["CheckpointError", "NoSpaceError", "UnreadableCheckpointError"]


class CheckpointError(ValueError):
    """A checkpoint that is missing, damaged, unsafe, or does not fit; or one that could not be written."""


class UnreadableCheckpointError(CheckpointError):
    """The system refuses to read a file or folder; what is in it is not known, and may be sound."""


class NoSpaceError(CheckpointError):
    """There is not enough room for a checkpoint; older ones stay as they are."""
