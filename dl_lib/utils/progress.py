"""The one progress bar, and whether anyone would see it."""

from __future__ import annotations

import os
import sys

from tqdm import tqdm

from dl_lib.utils import comm

__all__ = ["progress_bar", "progress_bar_enabled"]

_BAR_FORMAT = "{desc} {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt}, ETA {remaining}, {rate_fmt}{postfix}"
_COLUMNS, _ROWS = 120, 24  # where the terminal says 0, as some pseudo terminals do, and tqdm would draw nothing


def progress_bar_enabled() -> bool:
    """Whether progress bars are drawn: on the main process, when its standard error is a terminal."""
    return comm.is_main_process() and sys.stderr.isatty()


def progress_bar(total: int, *, description: str, unit: str, done: int = 0) -> tqdm:
    """A bar on standard error, with the time left; nothing at all where it would only fill a file with copies.

    Args:
        total: how much there is to do.
        description: what is being done.
        unit: what is counted, in the singular.
        done: how much was done before.
    """
    has_size = _terminal_columns() > 0
    return tqdm(
        total=total,
        initial=done,
        desc=description,
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
    except (OSError, ValueError, AttributeError):  # no terminal, or something that only looks like one
        return 0
