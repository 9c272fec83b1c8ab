"""User errors of the commands: one message and an exit status instead of a traceback."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeGuard

from dl_lib.config import ConfigError
from dl_lib.launch import LaunchError, LostProcessError
from dl_lib.utils.escaping import printable_lines
from dl_lib.utils.extras import MissingExtraError
from dl_lib.utils.files import NO_SPACE, WriteError
from dl_lib.utils.metrics_file import MetricsFileError
from dl_lib.utils.output_path import OutputPathError
from dl_lib.utils.standard_streams import tolerant_streams

__all__ = ["user_errors"]

FAILED_STATUS = 1
USER_ERROR_STATUS = 2  # as in argparse
# ENOENT is not among them: a file that the library expects and does not find can be a defect.
_UNUSABLE_PATH = (
    *(errno.EACCES, errno.EPERM, errno.EROFS, errno.EEXIST, errno.EISDIR, errno.ENOTDIR, errno.ENAMETOOLONG),
    *NO_SPACE,
)
INTERRUPTED_STATUS = 130  # as in shells: 128 + SIGINT


@contextmanager
def user_errors(prog: str) -> Iterator[None]:
    """Context that turns errors a user can fix into a message on stderr and an exit status.

    The status is 2 for an invalid config, file, dataset or launch and for a path that cannot be written, 1 for a
    diverged run or a lost process, 130 after Ctrl-C. All other errors, which are defects of the library or of the
    user's own code, keep their traceback. If several torchrun workers on one machine fail, only the first one prints
    its message. A standard output or error that cannot be written is no error, see `tolerant_streams`.

    Args:
        prog: Name of the command, as a prefix of the message.

    Raises:
        SystemExit: Instead of a user error.
    """
    with tolerant_streams():
        try:
            yield
        except KeyboardInterrupt:
            print(f"\n{prog}: interrupted by Ctrl-C", file=sys.stderr)
            raise SystemExit(INTERRUPTED_STATUS) from None
        except Exception as error:
            status, is_first = _exit_status(error), _is_first_to_report()
            if status is None:
                raise
            if is_first:
                print(f"{prog}: error: {printable_lines(_message(error))}", file=sys.stderr)
            raise SystemExit(status) from None


def _exit_status(error: Exception) -> int | None:
    """Return the exit status for a user error, or None for a defect."""
    user_errors = (ConfigError, LaunchError, MetricsFileError, MissingExtraError, OutputPathError, WriteError)
    if isinstance(error, user_errors) or _is_unusable_path(error):
        return USER_ERROR_STATUS
    if isinstance(error, LostProcessError):
        return FAILED_STATUS
    if not isinstance(error, (ValueError, KeyError)):
        return None
    # These modules import torch; config errors do not wait for it.
    from dl_lib.checkpoint import CheckpointError
    from dl_lib.data.errors import DataError
    from dl_lib.engine import NonFiniteLossError

    if isinstance(error, NonFiniteLossError):
        return FAILED_STATUS
    return USER_ERROR_STATUS if isinstance(error, (CheckpointError, DataError)) else None


def _is_unusable_path(error: Exception) -> TypeGuard[OSError]:
    """Return whether the operating system refuses to use a file, in a call without a message of its own."""
    if not isinstance(error, OSError) or isinstance(error, WriteError):
        return False
    return error.errno in _UNUSABLE_PATH and error.filename is not None


def _message(error: Exception) -> str:
    """Return the message without the traceback that torch prepends to errors of data loader workers."""
    if _is_unusable_path(error):
        path = error.filename2 or error.filename  # of a failed rename, the target
        reason = f"cannot use this path: {error.strerror}; choose another one or fix its permissions"
        return f"{reason}. Received: path={path!r}"
    text = str(error)
    return text.rpartition(f"{type(error).__name__}: ")[2].rstrip() if text.startswith("Caught ") else text


def _is_first_to_report() -> bool:
    """Return whether this is the first torchrun worker of its machine to report an error, and mark it as such.

    All workers fail on the same misspelt key, and one failing worker breaks the connections of the others. torchrun
    gives each worker an error file below a shared folder; the symlink there, which only one process can create, marks
    the first. Without torchrun, every process is the first.
    """
    error_file = os.environ.get("TORCHELASTIC_ERROR_FILE")
    if not error_file:
        return True
    mark, own_id = Path(error_file).parents[1] / "first_to_report", str(os.getpid())
    try:
        mark.symlink_to(own_id)
    except FileExistsError:
        return os.readlink(mark) == own_id
    except OSError:  # a missing folder must not hide the error
        return True
    return True
