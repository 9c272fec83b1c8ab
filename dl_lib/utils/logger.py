"""Logging with the standard library: to the terminal for people, to a file in the run's folder for later."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from termcolor import colored
from tqdm import tqdm

from dl_lib.utils.progress import progress_bar_enabled
from dl_lib.utils.run_files import log_name

__all__ = ["FILE_ONLY", "REPEATS_BAR", "errors_logged", "setup_logger"]

REPEATS_BAR = {"repeats_bar": True}  # `extra` of a record that says what the progress bar shows anyway
FILE_ONLY = {"file_only": True}  # `extra` of a record that the terminal shows in another way, as an error that ends it

_LOGGER_NAMES = ("dl_lib", "fvcore")  # fvcore speaks when it loads, saves and recomputes statistics
_COLORS = {logging.WARNING: "yellow", logging.ERROR: "red", logging.CRITICAL: "red"}


def setup_logger(output_dir: str | Path | None = None, *, rank: int = 0) -> logging.Logger:
    """Sends what the library says to the terminal and to a file; a second call replaces what the first set up.

    The main process writes to standard output and log.txt; process N of several only to log_rankN.txt.
    Files are added to, so that a resumed run goes on in the same one.

    Args:
        output_dir: the run's folder; made where it does not exist. None logs to the terminal only.
        rank: number of this process.

    Returns:
        The library's logger.
    """
    handlers: list[logging.Handler] = [_terminal_handler(sys.stdout)] if rank == 0 else []
    if output_dir is not None:
        handlers.append(_file_handler(Path(output_dir) / log_name(rank)))
    for name in _LOGGER_NAMES:
        _replace_handlers(logging.getLogger(name), handlers=handlers)
    return logging.getLogger(_LOGGER_NAMES[0])


@contextmanager
def errors_logged(doing: str) -> Iterator[None]:
    """Writes an error that ends a run into the log file, with its traceback, and lets it through.

    Args:
        doing: what is being done, such as "evaluating".
    """
    try:
        yield
    except Exception:
        logging.getLogger(_LOGGER_NAMES[0]).exception("stopped by an error while %s", doing, extra=FILE_ONLY)
        raise


class _TerminalHandler(logging.Handler):
    """Writes above a progress bar instead of through it."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self._stream = stream

    def emit(self, record: logging.LogRecord) -> None:
        try:
            tqdm.write(self.format(record), file=self._stream)
            self._stream.flush()
        except Exception:
            self.handleError(record)


class _TerminalFormatter(logging.Formatter):
    """Time and message; level only where it matters."""

    def __init__(self, *, color: bool) -> None:
        super().__init__("%(message)s", datefmt="%H:%M:%S")
        self._color = color

    def format(self, record: logging.LogRecord) -> str:
        time = f"[{self.formatTime(record, self.datefmt)}]"
        level = f"{record.levelname}: " if record.levelno >= logging.WARNING else ""
        if self._color:
            time = colored(time, "green", force_color=True)
            level = colored(level, _COLORS[record.levelno], force_color=True) if level else ""
        return f"{time} {level}{super().format(record)}"


def _terminal_handler(stream: TextIO) -> logging.Handler:
    handler = _TerminalHandler(stream)
    handler.setFormatter(_TerminalFormatter(color=stream.isatty()))
    handler.addFilter(lambda record: not getattr(record, "file_only", False))
    # Piped into a file or another program, the lines are all there is, bar or no bar.
    handler.addFilter(
        lambda record: not (getattr(record, "repeats_bar", False) and stream.isatty() and progress_bar_enabled())
    )
    return handler


def _file_handler(path: Path) -> logging.Handler:
    path.parent.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("[%(asctime)s] %(levelname)s %(name)s: %(message)s"))
    return handler


def _replace_handlers(logger: logging.Logger, *, handlers: list[logging.Handler]) -> None:
    for old in tuple(logger.handlers):
        if isinstance(old, (_TerminalHandler, logging.FileHandler)):  # a program's own handlers of other kinds stay
            logger.removeHandler(old)
            old.close()
    for handler in handlers:
        logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False  # handlers of the root logger would print every line a second time
