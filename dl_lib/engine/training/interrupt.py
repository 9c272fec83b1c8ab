"""Signals that ask a run to end, granted when nothing is half done: Ctrl-C, TERM, USR1."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType

from dl_lib.utils import comm

__all__ = ["STOP_SIGNALS", "InterruptGuard", "TrainingInterrupted"]

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
_REPEAT_SECONDS = 5.0  # within which a launcher may pass on a signal that the process has got itself


class TrainingInterrupted(SystemExit):
    """A run ended by a signal. Nobody has to catch it: it ends the process quietly, with the status that shells give.

    That is 128 and the signal's number: 130 for Ctrl-C, 143 for TERM, 138 for USR1 (on Linux, x86 and ARM).
    """

    def __init__(self, signal_number: int = signal.SIGINT) -> None:
        super().__init__(128 + signal_number)
        self.signal_number = signal_number

    def __reduce__(self) -> tuple[type[TrainingInterrupted], tuple[int]]:
        return type(self), (self.signal_number,)


class InterruptGuard:
    """While entered, the first signal only sets `requested`; a second one sets `forced` and raises KeyboardInterrupt.

    An optimizer step that is torn in the middle leaves weights that belong to no iteration, so the loop looks at
    `requested` where they do. Long stretches without such a danger say so with `interruptible`. TERM and USR1 that
    come again within some seconds are taken for the same request, as launchers pass them on; Ctrl-C counts each time.

    Processes forked from this one inherit the handler, and ignore the signals: the main process ends them. Outside the
    main thread, and where a signal is ignored (nohup), nothing is changed.

    Attributes:
        requested: whether a signal has come.
        forced: whether a second one has.
        signal_number: of the first.
    """

    def __init__(self) -> None:
        self.requested = self.forced = False
        self.signal_number: int = signal.SIGINT
        self._raises_at_once = False
        self._process_id = os.getpid()
        self._previous: dict[int, signal.Handlers | object | None] = {}
        self._requested_at_seconds = 0.0

    def __enter__(self) -> InterruptGuard:
        self.requested = self.forced = False
        self._process_id = os.getpid()
        if threading.current_thread() is threading.main_thread():
            for number in STOP_SIGNALS:
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
        self._previous = {}

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """For stretches that may be left in the middle: the first signal raises KeyboardInterrupt there."""
        if self.requested:
            raise KeyboardInterrupt
        self._raises_at_once = True
        try:
            yield
        finally:
            self._raises_at_once = False

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process_id or self._is_repeated(number):
            return
        if not self.requested:
            self.signal_number, self._requested_at_seconds = number, time.monotonic()
        self.forced = self.requested
        self.requested = True
        if self._raises_at_once or self.forced:
            raise KeyboardInterrupt
        # Not through logging: the signal may have come in the middle of a line that is being written.
        if comm.is_main_process():
            name = "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name
            os.write(2, f"\n{name}: the run is saved after this step; once more ends it without saving.\n".encode())

    def _is_repeated(self, number: int) -> bool:
        passed_seconds = time.monotonic() - self._requested_at_seconds
        return self.requested and number != signal.SIGINT and passed_seconds < _REPEAT_SECONDS
