"""Dataset files: root folder, file listing and image-label pairs."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from dl_lib.data.errors import DataError, MissingDataError, UnreadableFileError
from dl_lib.data.raw_dataset import RawDataset

__all__ = [
    "FileRecord",
    "PairedFiles",
    "UnpairedFilesError",
    "datasets_root",
    "ensure_exists",
    "find_files",
    "pair_files",
    "resolve_path",
]

_ROOT_VARIABLE = "DL_DATASETS"
_DEFAULT_ROOT = "datasets"


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
    """

    def __init__(self, message: str, *, paired: PairedFiles, usable: RawDataset) -> None:
        super().__init__(message)
        self.paired = paired
        self.usable = usable


def datasets_root() -> Path:
    """Return the folder given by the environment variable `DL_DATASETS`, by default `./datasets`; it need not exist."""
    return Path(os.environ.get(_ROOT_VARIABLE) or _DEFAULT_ROOT).expanduser()


def resolve_path(path: str | os.PathLike[str]) -> Path:
    """Resolve a user's path: relative paths are relative to `datasets_root()`, a leading `~` is expanded."""
    return datasets_root() / Path(path).expanduser()


def ensure_exists(path: Path, *, layout: str) -> Path:
    """Return a path after checking that it exists; the error message describes the expected `layout`.

    Raises:
        MissingDataError: If the path does not exist.
    """
    if path.exists():
        return path
    raise MissingDataError(
        f"{path} does not exist. Expected {layout}; datasets/README.md describes the layouts and the sources of the "
        f"data. If the datasets are in another folder, set the environment variable {_ROOT_VARIABLE} to it. "
        f"Received: {_ROOT_VARIABLE}={os.environ.get(_ROOT_VARIABLE)!r}, path={str(path.absolute())!r}"
    )


def find_files(folder: Path, *, endings: Iterable[str], flat: bool = False) -> dict[str, str]:
    """List the files below a folder, with symbolic links followed.

    Args:
        folder: Existing folder.
        endings: File name endings to include, such as `_leftImg8bit.png`; letter case is ignored. Hidden files and
            files with another ending are skipped.
        flat: Omit subfolders from the names.

    Returns:
        Path by name. A name is the path relative to the folder, with `/` on every system and without the ending.

    Raises:
        UnreadableFileError: If a folder cannot be listed.
        DataError: If two files have the same name.
    """
    folded = tuple(ending.casefold() for ending in endings)
    found: dict[str, str] = {}
    for parent, _, file_names in os.walk(folder, followlinks=True, onerror=_raise_unreadable):
        for file_name in file_names:
            ending = next((ending for ending in folded if file_name.casefold().endswith(ending)), None)
            if ending is None or file_name.startswith("."):
                continue
            path = Path(parent, file_name)
            name = (file_name if flat else path.relative_to(folder).as_posix())[: -len(ending)]
            if name in found:
                raise DataError(
                    f"{folder} must not contain two files with the name {name!r}: labels are assigned to images by "
                    f"name. Rename or remove one. Received: files={sorted([str(path), found[name]])}"
                )
            found[name] = str(path)
    return found


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


def _raise_unreadable(error: OSError) -> None:
    # os.walk silently skips a folder that it cannot list.
    raise UnreadableFileError(
        f"folder {error.filename} cannot be listed; check that it exists and is readable. Received: {error.strerror}"
    ) from error
