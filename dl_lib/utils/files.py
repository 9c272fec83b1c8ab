"""Atomic and durable file operations."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO

__all__ = ["PARTIAL_SUFFIX", "flush_to_disk", "open_atomically", "remove_durably", "sync_folder", "write_atomically"]

PARTIAL_SUFFIX = ".partial"  # appended while a file is written; fixed, so that a retry replaces an aborted write


@contextlib.contextmanager
def open_atomically(path: str | os.PathLike[str]) -> Iterator[IO[bytes]]:
    """Context manager that opens a file for an atomic write: `path` is always the complete old or new file.

    The content is written to a partial file in the same folder, flushed to disk with fsync and renamed. After an error,
    the partial file is deleted. The folder must exist.
    """
    partial = os.fspath(path) + PARTIAL_SUFFIX
    try:
        with open(partial, "wb") as file:
            yield file
            flush_to_disk(file)
        os.replace(partial, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.remove(partial)
        raise
    sync_folder(os.path.dirname(path) or os.curdir)


def write_atomically(path: str | os.PathLike[str], content: str | bytes) -> None:
    """Write a complete file, text as UTF-8, with `open_atomically`; create its folder if it does not exist."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with open_atomically(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)


def flush_to_disk(file: IO[bytes]) -> None:
    """Flush a file with fsync, so that its content survives a power failure."""
    file.flush()
    os.fsync(file.fileno())


def remove_durably(path: str | os.PathLike[str]) -> None:
    """Remove a file if it exists, so that the removal survives a power failure."""
    with contextlib.suppress(FileNotFoundError):
        os.remove(path)
        sync_folder(os.path.dirname(path) or os.curdir)


def sync_folder(folder: str) -> None:
    """Make renames and removals survive a power failure; file systems without fsync of folders are ignored."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
