"""Graceful interruption of training by SIGINT (Ctrl-C), SIGTERM or SIGUSR1."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from dl_lib.launch.signals import SignalHandler
from dl_lib.utils import comm

__all__ = ["InterruptGuard", "TrainingInterrupted"]

_REPEAT_SECONDS = 5.0  # a launcher may forward a signal that the process has already received


class TrainingInterrupted(SystemExit):
    """Exit after a stop signal; uncaught, the process exits with the shell's status for that signal, 128 + number.

    That is 130 for SIGINT, 143 for SIGTERM and 138 for SIGUSR1 (on Linux, x86 and ARM).
    """

    def __init__(self, signal_number: int = signal.SIGINT) -> None:
        super().__init__(128 + signal_number)
        self.signal_number = signal_number

    def __reduce__(self) -> tuple[type[TrainingInterrupted], tuple[int]]:
        return type(self), (self.signal_number,)


class InterruptGuard(SignalHandler):
    """Signal handler that defers stop signals: the first sets `requested`, the second raises KeyboardInterrupt.

    An optimizer step interrupted halfway would leave only some weights updated, so the training loop checks `requested`
    between steps; `interruptible` marks code that a signal may interrupt immediately. A repeated SIGTERM or SIGUSR1
    within 5 seconds counts once, as launchers forward signals; each Ctrl-C counts.

    Forked processes inherit the handler and ignore the signals: the main process terminates them.

    Attributes:
        requested: Whether a signal was received.
        forced: Whether a second signal was received.
        signal_number: Number of the first signal.
    """

    def __init__(self) -> None:
        super().__init__()
        self.requested = self.forced = False
        self.signal_number: int = signal.SIGINT
        self._raises_immediately = False
        self._process_id = os.getpid()
        self._requested_at_seconds = 0.0

    def __enter__(self) -> InterruptGuard:
        self.requested = self.forced = False
        self._process_id = os.getpid()
        return super().__enter__()

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """Context manager in which the first signal raises KeyboardInterrupt immediately."""
        if self.requested:
            raise KeyboardInterrupt
        self._raises_immediately = True
        try:
            yield
        finally:
            self._raises_immediately = False

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process_id or self._is_repeated(number):
            return
        if not self.requested:
            self.signal_number, self._requested_at_seconds = number, time.monotonic()
        self.forced = self.requested
        self.requested = True
        if self._raises_immediately or self.forced:
            raise KeyboardInterrupt
        # Bypasses logging: the signal may interrupt a write to the same stream, which is not reentrant.
        if comm.is_main_process():
            name = "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name
            with suppress(OSError):  # `dl_lib train 2>&1 | tee log`: Ctrl-C ends tee, the reader of stderr, too
                os.write(2, f"\n{name}: saving a checkpoint after this step; repeat to exit without saving\n".encode())

    def _is_repeated(self, number: int) -> bool:
        elapsed_seconds = time.monotonic() - self._requested_at_seconds
        return self.requested and number != signal.SIGINT and elapsed_seconds < _REPEAT_SECONDS
