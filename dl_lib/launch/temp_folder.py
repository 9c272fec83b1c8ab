"""Folder in `$TMPDIR` for the sockets and error files of a run, and removal of those that killed runs left."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from contextlib import suppress
from multiprocessing import process, util
from pathlib import Path
from typing import Any

from dl_lib.launch.process_info import LaunchError

__all__ = ["hold_temp_folder", "use_temp_folder"]

_PREFIX = "dl_lib-run-"
_LAST = -100  # priority of multiprocessing for its own folder: removed after the child processes have ended


def use_temp_folder() -> Path:
    """Return the temporary folder of this process and its children; at the first call, create it and clean `$TMPDIR`.

    `multiprocessing` places its sockets there, which data loader workers use to pass tensors. The folder is removed
    when this process exits; after `kill -9`, the next run of the same user removes it. Every process that uses the
    folder holds a shared lock of it. A process id would not identify the process: ids are reused, and containers that
    share `$TMPDIR` have their own.

    Raises:
        LaunchError: If no folder can be created.
    """
    config = _config()
    used = config.get("tempdir")
    if used is not None and Path(used).name.startswith(_PREFIX):
        return Path(used)
    try:
        _remove_abandoned(Path(tempfile.gettempdir()))
        while not hold_temp_folder(folder := Path(tempfile.mkdtemp(prefix=_PREFIX))):
            pass  # another process has removed it before the lock
    except OSError as error:
        raise LaunchError(
            f"no folder for temporary files can be written ({error.strerror or error}); free disk space, or set TMPDIR "
            f"to another folder. Received: TMPDIR={os.environ.get('TMPDIR', '')!r}"
        ) from error
    util.Finalize(None, shutil.rmtree, args=(folder,), kwargs={"ignore_errors": True}, exitpriority=_LAST)
    config["tempdir"] = str(folder)
    return folder


def hold_temp_folder(folder: Path) -> bool:
    """Mark a folder as used until this process and the processes forked from it end; False if it is being removed."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except (FileNotFoundError, BlockingIOError):
        return False
    except OSError:
        return True  # a file system without locks: no process removes the folder of another
    return folder.exists()


def _remove_abandoned(parent: Path) -> None:
    for folder in parent.glob(f"{_PREFIX}*"):
        with suppress(OSError):  # of another user, removed by another run, or without locks
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                if os.fstat(descriptor).st_uid == os.getuid():
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(folder)
            finally:
                os.close(descriptor)


def _config() -> dict[str, Any]:
    """Return the settings of `multiprocessing` that child processes inherit; there is no public access to them."""
    return process.current_process()._config  # type: ignore[attr-defined]
