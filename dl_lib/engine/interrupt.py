"""Ctrl-C as a request that is granted when nothing is half done."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType

from dl_lib.utils import comm

__all__ = ["InterruptGuard", "TrainingInterrupted"]

INTERRUPTED_STATUS = 130  # what shells report for a program that Ctrl-C ended: 128 + SIGINT


class TrainingInterrupted(SystemExit):
    """A run ended by Ctrl-C. Nobody has to catch it: it ends the process quietly, with status 130."""

    def __init__(self) -> None:
        super().__init__(INTERRUPTED_STATUS)


class InterruptGuard:
    """While entered, the first Ctrl-C only sets `requested`; a second one sets `forced` and raises KeyboardInterrupt.

    An optimizer step that is torn in the middle leaves weights that belong to no iteration, so the loop looks at
    `requested` where they do. Long stretches without such a danger say so with `interruptible`.

    Processes forked from this one (those that load data) inherit the handler, and ignore Ctrl-C: the main process
    ends them. Outside the main thread, and where Ctrl-C is switched off (nohup), nothing is changed.
    """

    def __init__(self) -> None:
        self.requested = False
        self.forced = False
        self._raises_at_once = False
        self._process_id = os.getpid()
        self._previous: signal.Handlers | object | None = None
        self._installed = False

    def __enter__(self) -> InterruptGuard:
        self.requested = self.forced = False
        self._process_id = os.getpid()
        in_main_thread = threading.current_thread() is threading.main_thread()
        if in_main_thread and signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
            self._previous = signal.signal(signal.SIGINT, self._handle)
            self._installed = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._installed:
            signal.signal(signal.SIGINT, self._previous)  # type: ignore[arg-type]
            self._installed = False

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """For stretches that may be left in the middle: the first Ctrl-C raises KeyboardInterrupt there."""
        if self.requested:
            raise KeyboardInterrupt
        self._raises_at_once = True
        try:
            yield
        finally:
            self._raises_at_once = False

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process_id:
            return
        self.forced = self.requested
        self.requested = True
        if self._raises_at_once or self.forced:
            raise KeyboardInterrupt
        # Not through logging: the signal may have come in the middle of a line that is being written.
        if comm.is_main_process():
            os.write(2, b"\nCtrl-C: the run is saved after this step; once more ends it without saving.\n")
