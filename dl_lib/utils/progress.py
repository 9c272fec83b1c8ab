"""Progress bar on standard error."""

from __future__ import annotations

import os
import sys

from tqdm import tqdm

from dl_lib.utils import comm
from dl_lib.utils.escaping import printable

__all__ = ["progress_bar", "progress_bar_enabled"]

_BAR_FORMAT = "{desc} {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt}, ETA {remaining}, {rate_fmt}{postfix}"
_COLUMNS, _ROWS = 120, 24  # for pseudo-terminals that report size 0, where tqdm would draw nothing


def progress_bar_enabled() -> bool:
    """Return whether progress bars are drawn: on the main process if its standard error is a terminal."""
    return comm.is_main_process() and sys.stderr is not None and sys.stderr.isatty()


def progress_bar(total: int, *, description: str, unit: str, done: int = 0) -> tqdm:
    """Return a progress bar that starts at `done` units; it is disabled unless `progress_bar_enabled`."""
    has_size = _terminal_columns() > 0
    return tqdm(
        total=total,
        initial=done,
        desc=printable(description),
        unit=unit,
        bar_format=_BAR_FORMAT,
        dynamic_ncols=has_size,
        ncols=None if has_size else _COLUMNS,
        nrows=None if has_size else _ROWS,
        disable=not progress_bar_enabled(),
        file=sys.stderr,
    )


def _terminal_columns() -> int:
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns
    except (OSError, ValueError, AttributeError):  # standard error is replaced or is not a terminal
        return 0
