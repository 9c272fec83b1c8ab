"""Listing of dataset files by their names: hidden files are skipped, links followed."""

from __future__ import annotations

import logging
import os
import re
import unicodedata
from collections import deque
from collections.abc import Container, Iterable, Iterator
from pathlib import Path

from dl_lib.data.errors import DataError, UnreadableFileError
from dl_lib.utils.escaping import printable

__all__ = ["find_files", "list_files", "name_pattern", "normalized"]

_SYSTEM_FOLDERS = {  # of macOS archives, Synology, QNAP, Windows and Linux; in lower case
    *("__macosx", "@eadir", "#recycle", "@recycle", "@recently-snapshot", "#snapshot"),
    *("$recycle.bin", "system volume information", "lost+found"),
}

_log = logging.getLogger(__name__)


def list_files(folder: Path) -> Iterator[tuple[str, str]]:
    """List the files below a folder, with symbolic links followed.

    Files and folders that are hidden or made by operating systems (`.ipynb_checkpoints`, `@eaDir`, `__MACOSX`) are
    skipped. Each folder is listed once, under its real path if that is below `folder`: links cannot form a cycle.

    Yields:
        Path relative to the folder, with `/` on every system and in Unicode normal form C, and path of the file.

    Raises:
        UnreadableFileError: If a folder cannot be listed.
    """
    for parent, file_names in _walk(folder):
        for file_name in file_names:
            path = Path(parent, file_name)
            yield normalized(path.relative_to(folder).as_posix()), str(path)


def find_files(
    folder: Path, *, endings: Iterable[str], prefix: str = "", flat: bool = False, exclude: Container[str] = ()
) -> dict[str, str]:
    """Find the files below a folder whose paths have a prefix and one of several endings.

    Args:
        folder: Existing folder.
        endings: File name endings to include, such as `_leftImg8bit.png` or `/mask.png`; letter case is ignored.
        prefix: Text before the name, such as `mask_` or `masks/`; letter case is ignored.
        flat: Omit subfolders from the names.
        exclude: Paths of files to skip.

    Returns:
        Path of each file by its name, which is the relative path without prefix and ending.

    Raises:
        UnreadableFileError: If a folder cannot be listed.
        DataError: If two files have the same name, or a path is not printable UTF-8.
    """
    pattern = name_pattern(prefix, endings)
    found: dict[str, str] = {}
    for relative, path in list_files(folder):
        match = pattern.fullmatch(relative)
        if match is None or path in exclude:
            continue
        _check_printable(path)
        name = match["name"] if flat else match["parent"] + match["name"]
        if name in found:
            raise DataError(
                f"{folder} must not contain two files with the name {name!r}: labels are assigned to images by name. "
                f"Rename or remove one. Received: files={sorted([path, found[name]])}"
            )
        found[name] = path
    return found


def name_pattern(prefix: str, endings: Iterable[str]) -> re.Pattern[str]:
    """Return the expression for relative paths; its groups are the `parent`, which ends in `/`, and the `name`."""
    either = "|".join(re.escape(normalized(ending)) for ending in endings)
    text = f"(?P<parent>(?:.*/)?){re.escape(normalized(prefix))}(?P<name>[^/]+)(?:{either})"
    return re.compile(text, re.IGNORECASE | re.DOTALL)


def normalized(name: str) -> str:
    """Return a file name in Unicode normal form C; macOS stores `é` as two characters, other systems as one."""
    return unicodedata.normalize("NFC", name)


def _check_printable(path: str) -> None:
    """Check that the path of a data file can be written to logs and results.

    Raises:
        DataError: If it is not UTF-8, or contains control characters.
    """
    if (shown := printable(path)) != path:
        raise DataError(
            "the path of a data file must be UTF-8 without control characters; rename the file or folder. "
            f"Received: path={shown}"
        )


def _walk(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """Yield each folder with its files; links are followed last, so that a folder keeps its real path."""
    visited: set[str] = set()
    folders, links = deque([(str(folder), os.path.realpath(folder))]), deque[tuple[str, str]]()
    while folders or links:
        path, real = (folders or links).popleft()
        if real in visited:
            _log.warning("Skipped %s: the folder %s is already listed", path, real)
            continue
        visited.add(real)
        entries = _visible_entries(path)
        yield path, [entry.name for entry in entries if _is_file(entry)]
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                folders.append((entry.path, os.path.join(real, entry.name)))
            elif os.path.isdir(entry.path):
                target = os.path.realpath(entry.path)
                if os.path.commonpath([target, real]) == target:
                    _log.warning("Skipped %s: it is a link to %s, which contains it", entry.path, target)
                else:
                    links.append((entry.path, target))


def _is_file(entry: os.DirEntry[str]) -> bool:
    """Return whether an entry is a regular file, a link to one, or a broken link: reading that is an error."""
    if not entry.is_symlink():
        return entry.is_file()
    return os.path.isfile(entry.path) or not os.path.exists(entry.path)


def _visible_entries(folder: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            visible = [e for e in entries if not e.name.startswith(".") and e.name.casefold() not in _SYSTEM_FOLDERS]
    except OSError as error:
        raise UnreadableFileError(
            f"folder {folder} cannot be listed; check that it exists and is readable. Received: {error.strerror}"
        ) from error
    return sorted(visible, key=lambda entry: entry.name)
