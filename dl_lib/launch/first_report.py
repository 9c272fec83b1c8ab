"""Of the errors that torchrun's workers on one machine end with, only the first is worth printing."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["is_first_to_report"]

_MARK = "first_to_report"


def is_first_to_report() -> bool:
    """Whether no other worker of this machine has claimed to report an error before this one; asking is claiming.

    A misspelt key is found by all of them, and when one fails the others lose their connection to it. torchrun gives
    each worker a file for its error, in a folder for all workers that it starts together; a link there, which only one
    can make, says who is first. Where torchrun has not started the process, it is always the first.
    """
    error_file = os.environ.get("TORCHELASTIC_ERROR_FILE")
    if not error_file:
        return True
    mark, own = Path(error_file).parents[1] / _MARK, str(os.getpid())
    try:
        mark.symlink_to(own)
    except FileExistsError:
        return os.readlink(mark) == own
    except OSError:  # a folder that is gone is no reason to keep silent
        return True
    return True
