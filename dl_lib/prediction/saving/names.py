"""Names of inputs in an output folder: relative paths that do not depend on the other files of a folder."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from dl_lib.data.errors import InvalidSampleError
from dl_lib.utils.names import is_safe_id

__all__ = ["common_folder", "output_name"]

_WILDCARDS = frozenset("*?[")


def common_folder(inputs: Iterable[str]) -> Path:
    """Return the deepest folder, absolute, that contains all given files, folders and matches of glob patterns."""
    return Path(os.path.commonpath([_folder_of(text) for text in inputs]))


def output_name(path: str | os.PathLike[str], *, relative_to: Path) -> str:
    """Return the name of an input file: its path relative to a folder, with its suffix, so that no two are equal.

    Args:
        path: File inside the folder.
        relative_to: Absolute path of the folder, see `common_folder`.

    Raises:
        InvalidSampleError: If the name cannot become that of an output file.
    """
    name = Path(os.path.relpath(path, relative_to)).as_posix()
    if not is_safe_id(name):
        raise InvalidSampleError(
            f"{os.fspath(path)}: the path below {relative_to} becomes the name of the output, so that it must not have "
            f"hidden folders, \\, control characters or more than 240 bytes per name; rename the file, or pass its "
            f"folder as the only input. Received: name={name!r:.200}"
        )
    return name


def _folder_of(text: str) -> str:
    path = os.path.abspath(text)
    if os.path.isdir(path):
        return path
    if os.path.exists(path):
        return os.path.dirname(path)
    while _WILDCARDS.intersection(path):
        path = os.path.dirname(path)
    return path
