"""File operations: atomic and durable writes, and bounded reads of regular files."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import IO

__all__ = [
    "NO_SPACE",
    "PARTIAL_SUFFIX",
    "WriteError",
    "failure_reason",
    "flush_to_disk",
    "open_atomically",
    "open_regular",
    "read_regular",
    "remove_durably",
    "sync_folder",
    "write_atomically",
    "write_errors",
]

NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # full disk, exceeded quota, exceeded limit of the file size
_BYTES_PER_MB = 1e6

PARTIAL_SUFFIX = ".partial"  # appended while a file is written; fixed, so that a retry replaces an aborted write


class WriteError(OSError):
    """File that cannot be written; attributes as in `OSError`."""

    def __str__(self) -> str:
        return (
            f"cannot write {os.path.basename(self.filename)}: {self.strerror}; free disk space, fix the permissions or "
            f"choose another folder. Received: path={self.filename!r}"
        )


@contextlib.contextmanager
def write_errors(path: str | os.PathLike[str]) -> Iterator[None]:
    """Context manager that names the file, and the free space of a full disk, in errors of writing to `path`.

    The operating system does not name the file when a write fails. Errors that name another file keep their type.

    Raises:
        WriteError: If the file or its folder cannot be written.
    """
    path = os.fspath(path)
    try:
        yield
    except WriteError:
        raise
    except OSError as error:
        if error.errno is None:  # of a damaged compressed file that is read meanwhile
            raise
        named = path if error.filename is None else os.fsdecode(error.filename)
        if not (named.startswith(f"{path}.") or f"{path}{PARTIAL_SUFFIX}".startswith(named)):  # a suffix, or its folder
            raise
        raise WriteError(error.errno, failure_reason(error, path), path) from error


def failure_reason(error: OSError, path: str | os.PathLike[str]) -> str:
    """Return the description of an error of writing to a path, with the free space if the disk is full."""
    if isinstance(error, FileExistsError):  # the system's words do not tell that it is no folder
        return "a file or a broken link has this name"
    reason = error.strerror or str(error)
    return f"{reason}, {_free_bytes(path) / _BYTES_PER_MB:.1f} MB free" if error.errno in NO_SPACE else reason


def open_regular(path: str | os.PathLike[str]) -> IO[bytes]:
    """Open a file for reading; anything but a regular file is refused at once, as a pipe or device may never end.

    Raises:
        OSError: If the path is a folder, pipe, device or socket, or cannot be opened.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # a pipe without a writer does not block
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path))
        raise OSError(errno.EINVAL, "not a regular file but a pipe, device or socket", os.fspath(path))
    return open(descriptor, "rb")


def read_regular(path: str | os.PathLike[str], *, max_bytes: int) -> bytes:
    """Return the content of a file with `open_regular`; a file above the limit is refused without reading it.

    Raises:
        OSError: As in `open_regular`, or if the file has more than `max_bytes` bytes.
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        # `read` allocates as many bytes as it is asked for.
        content = b"" if size > max_bytes else file.read(size + 1)
        if len(content) > size:  # a growing file, or one in /proc, which has no size
            content += file.read(max_bytes + 1 - len(content))
    if max(size, len(content)) > max_bytes:
        raise OSError(errno.EFBIG, f"larger than the limit of {max_bytes:,} bytes", os.fspath(path))
    return content


@contextlib.contextmanager
def open_atomically(path: str | os.PathLike[str], *, durable: bool = True) -> Iterator[IO[bytes]]:
    """Context manager that opens a file for an atomic write: `path` is always the complete old or new file.

    The content is written to a partial file in the same folder, flushed to disk with fsync and renamed. After an error,
    the partial file is deleted. The folder must exist.

    Args:
        path: File to write.
        durable: Whether to call fsync, without which a file may be empty after a power failure.

    Raises:
        WriteError: If the file cannot be written.
    """
    partial = os.fspath(path) + PARTIAL_SUFFIX
    try:
        with write_errors(path):
            with open(partial, "wb") as file:
                yield file
                if durable:
                    flush_to_disk(file)
            os.replace(partial, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.remove(partial)
        raise
    if durable:
        sync_folder(os.path.dirname(path) or os.curdir)


def write_atomically(path: str | os.PathLike[str], content: str | bytes | memoryview, *, durable: bool = True) -> None:
    """Write a complete file, text as UTF-8, with `open_atomically`; create its folder if it does not exist."""
    with write_errors(path):
        Path(path).parent.mkdir(parents=True, exist_ok=True)
    with open_atomically(path, durable=durable) as file:
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


def sync_folder(folder: str | os.PathLike[str]) -> None:
    """Make renames and removals survive a power failure; file systems without fsync of folders are ignored."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _free_bytes(path: str | os.PathLike[str]) -> int:
    folder = Path(path).absolute()
    while not folder.is_dir():
        folder = folder.parent
    return shutil.disk_usage(folder).free
