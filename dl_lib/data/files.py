"""Dataset files: root folder, split lists and image-label pairs."""

from __future__ import annotations

import os
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from dl_lib.config.paths import DATASETS_VARIABLE, datasets_root
from dl_lib.data.errors import DataError, MissingDataError, UnreadableFileError
from dl_lib.data.listing import normalized
from dl_lib.data.raw_dataset import RawDataset
from dl_lib.utils.files import read_regular

__all__ = [
    "FileRecord",
    "PairedFiles",
    "UnpairedFilesError",
    "ensure_exists",
    "evenly_spaced",
    "existing_form",
    "pair_files",
    "read_names",
    "read_text",
    "resolve_path",
]

Item = TypeVar("Item")

_MAX_LIST_BYTES = 2**26  # a million names are shorter


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
    if os.path.exists(path):
        return path
    raise MissingDataError(
        f"{path} does not exist. Expected {layout}; datasets/README.md describes the layouts and the sources of the "
        f"data. Relative paths are relative to the dataset root, or else to the folder of the config; if the datasets "
        f"are in another folder, set the environment variable {DATASETS_VARIABLE} to it. "
        f"Received: {DATASETS_VARIABLE}={os.environ.get(DATASETS_VARIABLE)!r}, path={str(path.absolute())!r}"
    )


def read_names(path: Path) -> list[str]:
    """Read a split list with one name per line, in Unicode normal form C; a byte-order mark is skipped.

    Raises:
        UnreadableFileError: If the file is not UTF-8 text.
        DataError: If a name occurs twice.
    """
    text = read_text(path, max_bytes=_MAX_LIST_BYTES, content="one name per line")
    lines = text.replace("\r", "\n").split("\n")
    names = [normalized(line.strip()) for line in lines if line.strip()]
    repeated = [name for name, times in Counter(names).items() if times > 1]
    if repeated:
        raise DataError(f"{path} must not list a name twice; remove the duplicates. Received: repeated={repeated[:3]}")
    return names


def read_text(path: Path, *, max_bytes: int, content: str) -> str:
    """Read a text file in UTF-8; a byte-order mark is skipped, and `content` describes the file in messages.

    Raises:
        UnreadableFileError: If the file is missing, too large or not UTF-8 text.
    """
    try:
        return read_regular(path, max_bytes=max_bytes).decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UnreadableFileError(f"{path} must be a text file in UTF-8 with {content}. Received: {error}") from error


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


def evenly_spaced(items: Sequence[Item], *, limit: int) -> Sequence[Item]:
    """Return every n-th item, with the smallest n for which these are at most `limit`."""
    return items[:: -(-len(items) // limit) or 1]
