"""The files of a run's folder: names that several parts of the library know, and writing without halves."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO

__all__ = [
    "PARTIAL_SUFFIX",
    "flush_to_disk",
    "open_atomically",
    "remove_durably",
    "write_atomically",
]

PARTIAL_SUFFIX = ".partial"  # appended while a file is written; fixed, so that a retry replaces an aborted write


@contextlib.contextmanager
def open_atomically(path: str | os.PathLike[str]) -> Iterator[IO[bytes]]:
    """A file to write that gets its name when it is whole: what bears the name is the old file or the new one.

    It is written beside its place, flushed to the disk and renamed. After an error nothing is left of it.

    Args:
        path: of a local file, in a folder that exists.
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
    _sync_folder(os.path.dirname(path) or os.curdir)


def write_atomically(path: str | os.PathLike[str], content: str | bytes) -> None:
    """Write a whole file with `open_atomically`; its folder is made where it does not exist.

    Args:
        path: of a local file.
        content: text is written as UTF-8.
    """
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with open_atomically(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)


def flush_to_disk(file: IO[bytes]) -> None:
    """Makes what was written so far last through a power cut."""
    file.flush()
    os.fsync(file.fileno())


def remove_durably(path: str | os.PathLike[str]) -> None:
    """Removes a file, if there is one, and makes that last through a power cut."""
    with contextlib.suppress(FileNotFoundError):
        os.remove(path)
        _sync_folder(os.path.dirname(path) or os.curdir)


def _sync_folder(folder: str) -> None:
    """Makes renames and removals last through a power cut; where a file system cannot, only that is lost."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
