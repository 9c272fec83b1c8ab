"""Logging to the terminal and to a file in the run folder, with the standard library."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from logging.handlers import MemoryHandler, WatchedFileHandler
from pathlib import Path
from typing import TextIO

from termcolor import colored
from tqdm import tqdm

from dl_lib.utils.escaping import printable_lines
from dl_lib.utils.progress import progress_bar_enabled
from dl_lib.utils.run_files import log_name

__all__ = ["FILE_ONLY", "REPEATS_BAR", "errors_logged", "setup_logger", "write_held_back_lines"]

REPEATS_BAR = {"repeats_bar": True}  # `extra` of a record whose content the progress bar shows as well
FILE_ONLY = {"file_only": True}  # `extra` of a record that the terminal shows otherwise, such as a fatal error

_MAX_HELD_BACK = 10_000  # lines

_LOGGER_NAMES = ("dl_lib", "fvcore")  # fvcore logs loading, saving and precise batch norm
_COLORS = {logging.WARNING: "yellow", logging.ERROR: "red", logging.CRITICAL: "red"}


def setup_logger(output_dir: str | Path | None = None, *, rank: int = 0, holds_back: bool = False) -> logging.Logger:
    """Log the library's messages to the terminal and to a file; a second call replaces the handlers of the first.

    The main process logs to standard output and log.txt, rank N only to log_rankN.txt. Files are appended to, so a
    resumed run continues its log.

    Args:
        output_dir: Run folder, created if it does not exist; None logs only to the terminal.
        rank: Rank of this process.
        holds_back: Whether lines are written to the file only after `write_held_back_lines`, an error, or at the end.

    Returns:
        The library's logger.
    """
    handlers: list[logging.Handler] = [_terminal_handler(sys.stdout)] if rank == 0 and sys.stdout else []
    if output_dir is not None:
        file = _FileHandler(Path(output_dir) / log_name(rank))
        handlers.append(_HeldBackLines(file) if holds_back else file)
    for name in _LOGGER_NAMES:
        _replace_handlers(logging.getLogger(name), handlers=handlers)
    return logging.getLogger(_LOGGER_NAMES[0])


def write_held_back_lines() -> None:
    """Write the lines that `setup_logger` holds back to the log file, and later ones at once."""
    for name in _LOGGER_NAMES:
        for handler in logging.getLogger(name).handlers:
            if isinstance(handler, _HeldBackLines):
                handler.capacity = 0
                handler.flush()


@contextmanager
def errors_logged(task: str) -> Iterator[None]:
    """Context manager that logs an exception during a task, such as "evaluating", to the log file and re-raises it."""
    try:
        yield
    except Exception:
        logging.getLogger(_LOGGER_NAMES[0]).exception("Stopped by an error while %s", task, extra=FILE_ONLY)
        raise


class _TerminalHandler(logging.Handler):
    """Handler that prints lines above an active progress bar."""

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
    """Formatter with time and message, and the level of warnings and errors."""

    def __init__(self, *, color: bool) -> None:
        super().__init__("%(message)s", datefmt="%H:%M:%S")
        self._color = color

    def format(self, record: logging.LogRecord) -> str:
        time = f"[{self.formatTime(record, self.datefmt)}]"
        level = f"{record.levelname}: " if record.levelno >= logging.WARNING else ""
        if self._color:
            time = colored(time, "green", force_color=True)
            level = colored(level, _COLORS[record.levelno], force_color=True) if level else ""
        return f"{time} {level}{printable_lines(super().format(record))}"


class _FileFormatter(logging.Formatter):
    """Formatter with time, level and logger."""

    def __init__(self) -> None:
        super().__init__("[%(asctime)s] %(levelname)s %(name)s: %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        return printable_lines(super().format(record))


class _FileHandler(WatchedFileHandler):
    """Handler that opens its file with the first line, and again if the file was moved away."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        super().__init__(path, encoding="utf-8", errors="backslashreplace", delay=True)
        self.setFormatter(_FileFormatter())
        self._has_failed = False

    def emit(self, record: logging.LogRecord) -> None:
        try:
            super().emit(record)
        except OSError:  # of the folder; those of the file are handled below
            self.handleError(record)

    def handleError(self, record: logging.LogRecord) -> None:
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            super().handleError(record)
        elif not self._has_failed:
            self._has_failed = True
            logging.getLogger(__name__).warning("Cannot write to %s: %s", self.baseFilename, error.strerror)

    def close(self) -> None:
        with suppress(OSError):
            super().close()


class _HeldBackLines(MemoryHandler):
    """Lines of a log file until it is known whether they continue the file of an earlier run; an error writes them."""

    def __init__(self, file: _FileHandler) -> None:
        super().__init__(_MAX_HELD_BACK, target=file)

    def close(self) -> None:
        file = self.target
        super().close()  # writes the remaining lines
        if file is not None:
            file.close()


def _terminal_handler(stream: TextIO) -> logging.Handler:
    handler = _TerminalHandler(stream)
    handler.setFormatter(_TerminalFormatter(color=stream.isatty()))
    handler.addFilter(lambda record: not getattr(record, "file_only", False))
    # Redirected output has no bar, so it keeps the lines.
    handler.addFilter(
        lambda record: not (getattr(record, "repeats_bar", False) and stream.isatty() and progress_bar_enabled())
    )
    return handler


def _replace_handlers(logger: logging.Logger, *, handlers: list[logging.Handler]) -> None:
    for old in tuple(logger.handlers):
        # Other handlers belong to the application.
        if isinstance(old, (_TerminalHandler, _FileHandler, _HeldBackLines)):
            logger.removeHandler(old)
            old.close()
    for handler in handlers:
        logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False  # handlers of the root logger would repeat every line
