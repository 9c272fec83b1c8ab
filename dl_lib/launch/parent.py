"""Whether the process that has started this one is still there."""

from __future__ import annotations

import multiprocessing
import os

from dl_lib.launch.errors import LostProcessError

__all__ = ["check_parent"]

_PARENT_ID = os.getppid()  # now: before torch is imported, which takes seconds


def check_parent() -> None:
    """Makes sure that a launcher has not ended meanwhile; for once its end has been tied to this process's.

    The system tells of it only those who have asked before, and who has not heard would run on, for nobody.

    Raises:
        LostProcessError: if it has.
    """
    launcher = multiprocessing.parent_process()
    is_gone = os.getppid() != _PARENT_ID if launcher is None else not launcher.is_alive()
    if is_gone:
        raise LostProcessError(
            "the launcher ended while this process was starting, which ends, too; start the run again. "
            f"Received: pid {os.getpid()}, of a launcher with pid {_PARENT_ID if launcher is None else launcher.pid}"
        )
