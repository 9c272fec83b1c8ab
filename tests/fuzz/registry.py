"""Registry of the formats under test: damaged contents, and readers that check what they return.

A reader writes the content to a file, reads it as the library does, and asserts that the values are valid. The only
errors it may raise are `USER_ERRORS`.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from hypothesis import strategies as st

from dl_lib.checkpoint import CheckpointError
from dl_lib.config import ConfigError
from dl_lib.data.errors import DataError
from dl_lib.engine import NonFiniteLossError
from dl_lib.launch import LaunchError
from dl_lib.utils.files import WriteError
from dl_lib.utils.metrics_file import MetricsFileError

USER_ERRORS = (ConfigError, DataError, CheckpointError, MetricsFileError, LaunchError, NonFiniteLossError, WriteError)
FORMATS: dict[str, Callable[[Path], "Format"]] = {}


class Content:
    """Content of a file, with a short representation."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.text(repr(self))

    def __repr__(self) -> str:
        text = repr(self.value)
        return text if len(text) < 2000 else f"{text[:1000]} ... {text[-1000:]}"


class Format(NamedTuple):
    """Strategy of contents, and their reader."""

    contents: st.SearchStrategy[Any]
    read: Callable[[Any], None]


def registered(make: Callable[[Path], Format]) -> Callable[[Path], Format]:
    """Register a function that prepares a format in an empty folder."""
    FORMATS[make.__name__] = make
    return make
