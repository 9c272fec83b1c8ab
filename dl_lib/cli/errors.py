"""How a user's mistake reaches the terminal: one message, status 2, no traceback."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from dl_lib.config import ConfigError

__all__ = ["user_errors"]

USER_ERROR_STATUS = 2  # as argparse has it


@contextmanager
def user_errors(prog: str) -> Iterator[None]:
    """Ends the process with a message if the configuration or a checkpoint cannot be used.

    Anything else keeps its traceback: it is a defect of the library or of the user's own code.

    Args:
        prog: name of the command, which the message begins with.
    """
    try:
        yield
    except ValueError as error:
        if not _is_user_error(error):
            raise
        print(f"{prog}: error: {error}", file=sys.stderr)
        raise SystemExit(USER_ERROR_STATUS) from None


def _is_user_error(error: ValueError) -> bool:
    if isinstance(error, ConfigError):
        return True
    from dl_lib.checkpoint import CheckpointError  # imports torch, which --help and a misspelt key need not wait for

    return isinstance(error, CheckpointError)
