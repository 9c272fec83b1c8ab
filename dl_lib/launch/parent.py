"""The end of a process together with the launcher that has started it."""

from __future__ import annotations

import multiprocessing
import os
import signal

from dl_lib.launch.errors import LostProcessError

__all__ = ["exit_with_parent"]

_PARENT_ID = os.getppid()  # now: before torch is imported, which takes seconds


def exit_with_parent() -> None:
    """Has the system send TERM to this process when its launcher ends, however that happens.

    torch asks for Ctrl-C in processes that it starts, which they do not hear as a background job of a shell's script.

    Raises:
        LostProcessError: if the launcher has ended before: the system tells of that only those who have asked by then.
    """
    from torch.multiprocessing import _prctl_pr_set_pdeathsig  # type: ignore[attr-defined]

    _prctl_pr_set_pdeathsig(signal.SIGTERM)
    launcher = multiprocessing.parent_process()
    is_gone = os.getppid() != _PARENT_ID if launcher is None else not launcher.is_alive()
    if is_gone:
        raise LostProcessError(
            "the launcher ended while this process was starting, which ends, too; start the run again. "
            f"Received: pid {os.getpid()}, of a launcher with pid {_PARENT_ID if launcher is None else launcher.pid}"
        )
