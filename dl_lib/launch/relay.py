"""Signals that ask a run to end, passed on by the process that has started the others."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Sequence
from types import FrameType, TracebackType
from typing import Any

__all__ = ["SignalRelay"]

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


class SignalRelay:
    """While entered, signals that ask this process to end go to others, who decide what to do about them.

    Outside the main thread, and where a signal is ignored (nohup), nothing is changed.

    Attributes:
        received: the first of them.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self._receivers: Sequence[int] = ()
        self._early: list[int] = []
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> SignalRelay:
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def pass_on_to(self, process_ids: Sequence[int]) -> None:
        """Names the receivers; they also get what came before."""
        self._receivers = process_ids
        for number in self._early:
            self._send(number)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.received = number if self.received is None else self.received
        if self._receivers:
            self._send(number)
        else:
            self._early.append(number)

    def _send(self, number: int) -> None:
        for process_id in self._receivers:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process_id, number)
