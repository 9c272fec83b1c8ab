"""Dataset files: root folder, file listing and image-label pairs."""

from __future__ import annotations

import logging
import os
import re
import unicodedata
from collections import Counter, deque
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from dl_lib.config.paths import DATASETS_VARIABLE, datasets_root
from dl_lib.data.errors import DataError, MissingDataError, UnreadableFileError
from dl_lib.data.raw_dataset import RawDataset
from dl_lib.utils.escaping import printable
from dl_lib.utils.files import read_regular

__all__ = [
    "FileRecord",
    "PairedFiles",
    "UnpairedFilesError",
    "check_printable",
    "ensure_exists",
    "existing_form",
    "find_files",
    "list_files",
    "name_pattern",
    "normalized",
    "pair_files",
    "read_names",
    "resolve_path",
]

_SYSTEM_FOLDERS = {  # of macOS archives, Synology, QNAP, Windows and Linux; in lower case
    *("__macosx", "@eadir", "#recycle", "@recycle", "@recently-snapshot", "#snapshot"),
    *("$recycle.bin", "system volume information", "lost+found"),
}
_MAX_LIST_BYTES = 2**26  # a million names are shorter

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class FileRecord:
    """Paths of the files of one sample, with an identifier that is unique within the dataset."""

    image_id: str
    image: str
    label: str = ""  # empty without ground truth


@dataclass(frozen=True)
class PairedFiles:
    """Image-label pairs and the names without a counterpart, each sorted by name.

    Args:
        records: Complete pairs.
        without_label: Names without a label file.
        without_image: Names without an image file. A name in a split list can lack both files.
    """

    records: tuple[FileRecord, ...]
    without_label: tuple[str, ...] = ()
    without_image: tuple[str, ...] = ()


class UnpairedFilesError(MissingDataError):
    """Images without labels or labels without images.

    Args:
        message: Error message.
        paired: All files that were found.
        usable: Dataset of the complete pairs, for callers that want to continue with these.
        hint: Sentence of the message on the likely cause, or an empty text.
    """

    def __init__(self, message: str, *, paired: PairedFiles, usable: RawDataset, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint
        self.paired = paired
        self.usable = usable


def resolve_path(path: str) -> Path:
    """Resolve an expanded data path (see `locate_data`): a relative one is relative to `datasets_root()`."""
    return datasets_root() / path


def ensure_exists(path: Path, *, layout: str) -> Path:
    """Return a path after checking that it exists; the error message describes the expected `layout`.

    Raises:
        MissingDataError: If the path does not exist.
    """
    if path.exists():
        return path
    raise MissingDataError(
        f"{path} does not exist. Expected {layout}; datasets/README.md describes the layouts and the sources of the "
        f"data. Relative paths are relative to the dataset root, or else to the folder of the config; if the datasets "
        f"are in another folder, set the environment variable {DATASETS_VARIABLE} to it. "
        f"Received: {DATASETS_VARIABLE}={os.environ.get(DATASETS_VARIABLE)!r}, path={str(path.absolute())!r}"
    )


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


def check_printable(path: str) -> None:
    """Check that the path of a data file can be written to logs and results.

    Raises:
        DataError: If it is not UTF-8, or contains control characters.
    """
    if (shown := printable(path)) != path:
        raise DataError(
            "the path of a data file must be UTF-8 without control characters; rename the file or folder. "
            f"Received: path={shown}"
        )


def find_files(
    folder: Path, *, endings: Iterable[str], prefix: str = "", flat: bool = False, exclude: Container[str] = ()
) -> dict[str, str]:
    """Find the files of `list_files` with certain names.

    Args:
        folder: Existing folder.
        endings: File name endings to include, such as `_leftImg8bit.png` or `/mask.png`; letter case is ignored.
        prefix: Text before the name, such as `mask_` or `masks/`; letter case is ignored.
        flat: Omit subfolders from the names.
        exclude: Paths of files to skip.

    Returns:
        Path by name: the relative path without prefix and ending.

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
        check_printable(path)
        name = match["name"] if flat else match["parent"] + match["name"]
        if name in found:
            raise DataError(
                f"{folder} must not contain two files with the name {name!r}: labels are assigned to images by name. "
                f"Rename or remove one. Received: files={sorted([path, found[name]])}"
            )
        found[name] = path
    return found


def read_names(path: Path) -> list[str]:
    """Read a split list with one name per line, in Unicode normal form C; a byte-order mark is skipped.

    Raises:
        UnreadableFileError: If the file is not UTF-8 text.
        DataError: If a name occurs twice.
    """
    try:
        text = read_regular(path, max_bytes=_MAX_LIST_BYTES).decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UnreadableFileError(
            f"{path} must be a text file in UTF-8 with one name per line. Received: {error}"
        ) from error
    lines = text.replace("\r", "\n").split("\n")
    names = [normalized(line.strip()) for line in lines if line.strip()]
    repeated = [name for name, times in Counter(names).items() if times > 1]
    if repeated:
        raise DataError(f"{path} must not list a name twice; remove the duplicates. Received: repeated={repeated[:3]}")
    return names


def normalized(name: str) -> str:
    """Return a file name in Unicode normal form C; macOS stores `é` as two characters, other systems as one."""
    return unicodedata.normalize("NFC", name)


def existing_form(path: str) -> str:
    """Return the path, or the form that exists: Unicode normal form C or D, or with `/` as separator; else `path`."""
    forms = (path, normalized(path), unicodedata.normalize("NFD", path), path.replace("\\", "/"))
    return next((form for form in forms if os.path.exists(form)), path)


def pair_files(
    names: Iterable[str], *, images: Mapping[str, str], labels: Mapping[str, str] | None = None
) -> PairedFiles:
    """Pair images and labels by name.

    Args:
        names: Names to look up, without duplicates.
        images: Image path by name.
        labels: Label path by name; None for a dataset without ground truth, whose records only need an image.
    """
    ordered = sorted(names)
    if labels is None:
        records = tuple(FileRecord(name, images[name]) for name in ordered if name in images)
    else:
        both = images.keys() & labels.keys()
        records = tuple(FileRecord(name, images[name], labels[name]) for name in ordered if name in both)
    return PairedFiles(
        records,
        without_label=tuple(name for name in ordered if labels is not None and name not in labels),
        without_image=tuple(name for name in ordered if name not in images),
    )


def name_pattern(prefix: str, endings: Iterable[str]) -> re.Pattern[str]:
    """Return the expression for relative paths; its groups are the `parent`, which ends in `/`, and the `name`."""
    either = "|".join(re.escape(normalized(ending)) for ending in endings)
    text = f"(?P<parent>(?:.*/)?){re.escape(normalized(prefix))}(?P<name>[^/]+)(?:{either})"
    return re.compile(text, re.IGNORECASE | re.DOTALL)


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
