"""Signal handling between a launcher and the processes that it starts. Does not import torch."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
from abc import ABC, abstractmethod
from collections.abc import Sequence
from types import FrameType, TracebackType
from typing import Any, TypeVar

from dl_lib.launch.process_info import LostProcessError

__all__ = ["STOP_SIGNALS", "SignalForwarder", "SignalHandler", "exit_with_parent"]

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
Handler = TypeVar("Handler", bound="SignalHandler")

_PARENT_PID = os.getppid()  # read before the import of torch, which takes seconds


def exit_with_parent() -> None:
    """Request SIGTERM for this process when its parent, the launcher, exits for any reason.

    `torch.multiprocessing` requests SIGINT instead, which a background job of a shell script ignores.

    Raises:
        LostProcessError: If the launcher has already exited; the kernel only signals requests made before the exit.
    """
    from torch.multiprocessing import _prctl_pr_set_pdeathsig  # type: ignore[attr-defined]

    _prctl_pr_set_pdeathsig(signal.SIGTERM)
    launcher = multiprocessing.parent_process()
    has_exited = os.getppid() != _PARENT_PID if launcher is None else not launcher.is_alive()
    if has_exited:
        raise LostProcessError(
            "the launcher exited while this process was starting; start the run again. "
            f"Received: pid={os.getpid()}, launcher_pid={_PARENT_PID if launcher is None else launcher.pid}"
        )


class SignalHandler(ABC):
    """Context manager that installs `_handle` as the handler of SIGINT, SIGTERM and SIGUSR1.

    Handlers are not installed outside the main thread, nor for ignored signals (nohup).
    """

    def __init__(self) -> None:
        self._previous: dict[int, Any] = {}

    def __enter__(self: Handler) -> Handler:
        if threading.current_thread() is threading.main_thread():
            for number in STOP_SIGNALS:
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous = {}

    @abstractmethod
    def _handle(self, number: int, frame: FrameType | None) -> None: ...


class SignalForwarder(SignalHandler):
    """Signal handler that forwards the signals to child processes.

    Attributes:
        received: First signal received, or None.
    """

    def __init__(self) -> None:
        super().__init__()
        self.received: int | None = None
        self._receivers: Sequence[int] = ()
        self._pending: list[int] = []

    def forward_to(self, process_ids: Sequence[int]) -> None:
        """Set the receiving processes and send them the signals received so far."""
        self._receivers = process_ids
        for number in self._pending:
            self._send(number)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.received = number if self.received is None else self.received
        if self._receivers:
            self._send(number)
        else:
            self._pending.append(number)

    def _send(self, number: int) -> None:
        for process_id in self._receivers:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process_id, number)
