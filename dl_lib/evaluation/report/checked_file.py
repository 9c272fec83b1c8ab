"""Files of an evaluation that may come from another machine: every damage is one error."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from dl_lib.config import ConfigError
from dl_lib.utils.files import read_regular

__all__ = ["read_checked"]

T = TypeVar("T")


def read_checked(path: Path, parse: Callable[[bytes], T], *, max_bytes: int, contents: str, advice: str) -> T:
    """Read a file and convert its content.

    Args:
        path: File.
        parse: Function that checks and converts the content; any exception means that the file is damaged.
        max_bytes: Largest size of the file.
        contents: What the file is, for the error.
        advice: How to create the file, for the error.

    Raises:
        ConfigError: If it is missing, damaged, or a file of another kind.
    """
    try:
        data = read_regular(path, max_bytes=max_bytes)
    except OSError as error:
        raise ConfigError(
            f"{path.name} cannot be read ({error.strerror or error}); {advice}. Received: path={str(path)!r}"
        ) from error
    try:
        return parse(data)
    except Exception as error:  # of parsers and the checks
        raise ConfigError(
            f"{path} is not {contents}, or is damaged; evaluate the run again. "
            f"Received: {type(error).__name__}: {error}"
        ) from error
