"""How a run ends that a user can mend: one message, a status, no traceback."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dl_lib.config import ConfigError
from dl_lib.launch import LaunchError, LostProcessError

__all__ = ["user_errors"]

FAILED_STATUS = 1
USER_ERROR_STATUS = 2  # as argparse has it
INTERRUPTED_STATUS = 130  # as shells have it: 128 + SIGINT


@contextmanager
def user_errors(prog: str) -> Iterator[None]:
    """Ends the process with a message where the configuration, a file, the data or the training itself is to blame.

    Status 2 for what cannot be used as it is, 1 for a training that has gone astray or lost a process, 130 for Ctrl-C.
    Anything else keeps its traceback: it is a defect of the library or of the user's own code. Of several workers of
    torchrun on one machine, the first to fail speaks.

    Args:
        prog: name of the command, which the message begins with.
    """
    try:
        yield
    except KeyboardInterrupt:
        print(f"\n{prog}: ended by Ctrl-C", file=sys.stderr)
        raise SystemExit(INTERRUPTED_STATUS) from None
    except Exception as error:
        status, speaks = _status(error), _is_first_to_report()
        if status is None:
            raise
        if speaks:
            print(f"{prog}: error: {_message(error)}", file=sys.stderr)
        raise SystemExit(status) from None


def _status(error: Exception) -> int | None:
    """The status to end with; None for a defect."""
    if isinstance(error, (ConfigError, LaunchError)):
        return USER_ERROR_STATUS
    if isinstance(error, LostProcessError):
        return FAILED_STATUS
    if isinstance(error, ImportError):  # a library that is an extra, and says so
        return USER_ERROR_STATUS if "pip install" in str(error) else None
    if not isinstance(error, (ValueError, KeyError)):
        return None
    # These import torch, which --help and a misspelt key need not wait for.
    from dl_lib.checkpoint import CheckpointError
    from dl_lib.data.errors import DataError
    from dl_lib.engine import NonFiniteLossError

    if isinstance(error, NonFiniteLossError):
        return FAILED_STATUS
    return USER_ERROR_STATUS if isinstance(error, (CheckpointError, DataError)) else None


def _message(error: Exception) -> str:
    """What the error says; torch puts the traceback of a process that loads data before it."""
    text = str(error)
    return text.rpartition(f"{type(error).__name__}: ")[2].rstrip() if text.startswith("Caught ") else text


def _is_first_to_report() -> bool:
    """Return whether this process is the first torchrun worker of its machine to report an error, and claim that.

    All workers fail on the same misspelt key, and one failing worker breaks the connections of the others. torchrun
    gives each worker an error file below a folder that they share; the symlink there, which only one process can
    create, marks the first. Without torchrun, every process is the first.
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
