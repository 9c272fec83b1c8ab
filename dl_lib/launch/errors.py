"""What can go wrong with the processes of a run."""

from __future__ import annotations

__all__ = ["LaunchError", "LostProcessError"]


class LaunchError(ValueError):
    """Processes that cannot be started as they were asked for."""


class LostProcessError(RuntimeError):
    """A process of the run has ended or does not answer, and the others cannot go on without it."""
