"""Standard output and error that tolerate failures: closed, full device, reader that has ended."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO, cast

__all__ = ["tolerant_streams"]


@contextmanager
def tolerant_streams() -> Iterator[list[OSError]]:
    """Context manager in which writing to standard output or error never fails.

    A stream that was closed before the start is opened on the null device; otherwise the next file that is opened
    would take its number and receive what libraries print. A stream that fails is redirected to the null device.
    Characters that its encoding lacks are escaped.

    Yields:
        Errors of standard output, complete after the context; without those of a reader that has ended (`| head`).
    """
    _open_closed_descriptors()
    before = sys.stdout, sys.stderr
    failures: list[OSError] = []
    with open(os.devnull, "w", encoding="utf-8") as null:
        streams = [_TolerantStream(stream or null) for stream in before]
        sys.stdout, sys.stderr = (cast(TextIO, stream) for stream in streams)
        try:
            yield failures
        finally:
            for stream in streams:
                stream.flush()
            sys.stdout, sys.stderr = before
            failure = streams[0].failure
            if failure is not None and failure.errno != errno.EPIPE:
                failures.append(failure)


class _TolerantStream:
    """Text stream that redirects itself to the null device at the first error."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.failure: OSError | None = None

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except UnicodeEncodeError:
            encoding = self._stream.encoding
            return self.write(text.encode(encoding, "backslashreplace").decode(encoding))
        except OSError as error:
            self._redirect(error)
            return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError as error:
            self._redirect(error)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def _redirect(self, error: OSError) -> None:
        self.failure = self.failure or error
        with open(os.devnull, "wb") as null, suppress(OSError):  # a replaced stream has no descriptor
            os.dup2(null.fileno(), self._stream.fileno())


def _open_closed_descriptors() -> None:
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # takes the lowest free number
