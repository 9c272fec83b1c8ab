"""Exclusive lock of an output folder, held while a run, an evaluation or a report writes to it."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import socket
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from dl_lib.utils import comm
from dl_lib.utils.output_path import OutputPathError, prepare_folder, unusable_folder
from dl_lib.utils.run_files import LOCK_NAME

__all__ = ["CANNOT_LOCK", "check_present", "locked_folder"]

CANNOT_LOCK = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS)  # of the file system, such as Lustre without `flock`

_log = logging.getLogger(__name__)


@contextmanager
def locked_folder(folder: str | os.PathLike[str], *, key: str = "OUTPUT_DIR") -> Iterator[None]:
    """Context manager that creates a folder and holds its exclusive lock; collective, and not reentrant.

    The global main process alone holds the lock, an flock on a hidden file that stays in the folder. The system
    releases it when that process ends in any way, so a killed run can be resumed at once. On a file system without
    locks, a warning is logged instead.

    Args:
        folder: Output folder, local; created before anything in it is changed.
        key: Config key or command-line argument that names the folder, for error messages.

    Raises:
        OutputPathError: If the folder cannot be created or written, or another process holds its lock.
    """
    lock, problem = None, ""
    try:
        if comm.is_main_process():
            try:
                lock = _FolderLock(prepare_folder(folder, key=key), key=key)
            except OutputPathError as error:
                problem = str(error)
            except OSError as error:
                problem = str(unusable_folder(error, folder, key=key))
        if problem := comm.broadcast(problem):
            raise OutputPathError(problem)
        yield
    finally:
        if lock is not None:
            lock.release()


def check_present(folder: str | os.PathLike[str], *, key: str = "OUTPUT_DIR") -> None:
    """Check that the folder of `locked_folder` has not been deleted or moved in the meantime; collective.

    Raises:
        OutputPathError: If its lock file is gone. The folder may exist again, because later writes create it.
    """
    problem = ""
    if comm.is_main_process() and not (Path(folder) / LOCK_NAME).exists():
        problem = (
            f"{key}: this folder, or the {LOCK_NAME} in it, was deleted or moved while files were written, so that "
            f"some may be missing; repeat the command. Received: {key}={os.fspath(folder)!r}"
        )
    if problem := comm.broadcast(problem):
        raise OutputPathError(problem)


class _FolderLock:
    """Lock file with host and process id of its holder."""

    def __init__(self, folder: Path, *, key: str) -> None:
        # Opened for writing: over NFS, flock becomes a lock of the file's bytes, which requires it. Python's files are
        # closed in executed programs, but a forked process shares the open file description that owns the lock: an
        # orphaned loader worker would keep the folder locked after its trainer was killed.
        path = folder / LOCK_NAME
        self._descriptor: int | None = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        os.register_at_fork(after_in_child=partial(_close_inherited, weakref.ref(self)))
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not (path.exists() and os.path.samestat(path.stat(), os.fstat(self._descriptor))):
                raise BlockingIOError  # its holder moved or removed the folder in the meantime
        except BlockingIOError:
            holder = os.pread(self._descriptor, 300, 0).decode(errors="replace").strip() or "unknown"
            self.close()
            is_local = holder.startswith(f"host {socket.gethostname()},")
            crashed = "" if is_local else f" (delete its {LOCK_NAME} only if that machine has crashed)"
            raise OutputPathError(
                f"{key}: another process is writing to this folder; wait until it ends, stop it, or choose another "
                f"folder{crashed}. Received: {key}={os.fspath(folder)!r}, used by {holder}"
            ) from None
        except OSError as error:
            if error.errno not in CANNOT_LOCK:
                raise
            _log.warning(
                "%s cannot be locked (%s); make sure that no other process writes to it", folder, error.strerror
            )
        self._write(f"host {socket.gethostname()}, pid {os.getpid()}\n")

    def release(self) -> None:
        """Release the lock; the file stays, as another process may have opened it in order to lock it."""
        if self._descriptor is not None:
            with contextlib.suppress(OSError):
                self._write("")
            self.close()

    def close(self) -> None:
        """Close this process's descriptor, without effect on the lock while another process shares it."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _write(self, holder: str) -> None:
        assert self._descriptor is not None, "released once"
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, holder.encode(), 0)


def _close_inherited(reference: weakref.ref[_FolderLock]) -> None:
    lock = reference()
    if lock is not None:
        lock.close()
