"""Output folders and files given by the user, checked before any expensive work."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from dl_lib.utils.files import failure_reason

__all__ = ["OutputPathError", "check_local", "prepare_folder", "unusable_folder"]

_PROBE_BYTES = 4096  # one block, as file systems may store less than a block without allocating one


class OutputPathError(ValueError):
    """Output folder or file that cannot be used, or that another process is using."""


def check_local(path: str | os.PathLike[str], *, key: str) -> None:
    """Refuse a path with a URL scheme where a local one is needed, such as for all output.

    Raises:
        OutputPathError: If the path has a scheme; the message leads with `key`.
    """
    if "://" in os.fspath(path):
        raise OutputPathError(
            f"{key} must be on a local or mounted file system; use a path without a scheme. "
            f"Received: {key}={os.fspath(path)!r}"
        )


def prepare_folder(folder: str | os.PathLike[str], *, key: str) -> Path:
    """Create an output folder if it is missing, and check that a file can be written to it.

    Args:
        folder: Local folder.
        key: Config key or command-line argument that names the folder, for error messages.

    Raises:
        OutputPathError: If it has a URL scheme, cannot be created or written, or is on a full disk.
    """
    check_local(folder, key=key)
    try:
        path = Path(folder)
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path) as file:
            file.write(bytes(_PROBE_BYTES))
            file.flush()
    except (OSError, ValueError) as error:  # ValueError: a null character in the path
        raise unusable_folder(error, folder, key=key) from error
    return path


def unusable_folder(error: Exception, folder: str | os.PathLike[str], *, key: str) -> OutputPathError:
    """Return the user error for an operating system error in an output folder."""
    reason = failure_reason(error, folder) if isinstance(error, OSError) else str(error)
    return OutputPathError(
        f"{key}: this folder cannot be created or written ({reason}); choose another one, free disk space or fix its "
        f"permissions. Received: {key}={os.fspath(folder)!r}"
    )
