"""Data sets of image files, with a label file for each: which belongs to which, and one sample after the other."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import astuple, dataclass
from pathlib import Path

import numpy as np

from dl_lib.data.catalog import RawSample
from dl_lib.data.errors import DataError, MissingDataError, UnpairedFilesError, UnreadableFileError
from dl_lib.data.fingerprint import fingerprint_files
from dl_lib.data.packed import PackedRecords
from dl_lib.data.reading import read_image, read_label

__all__ = ["FileDataset", "FileRecord", "PairedFiles", "file_dataset", "find_files", "pair_files"]

_SHOWN = 3  # names of each side that an error gives


@dataclass(frozen=True)
class FileRecord:
    """The files of one sample.

    Args:
        image_id: unique within the data set.
        image: path.
        label: path; "" in a data set without ground truth.
    """

    image_id: str
    image: str
    label: str = ""


@dataclass(frozen=True)
class PairedFiles:
    """Which label belongs to which image, and what has no partner; all in the order of their names.

    Args:
        records: one for each pair.
        without_label: names that have no label.
        without_image: names that have no image; what only stands in a list has neither.
    """

    records: tuple[FileRecord, ...]
    without_label: tuple[str, ...] = ()
    without_image: tuple[str, ...] = ()


class FileDataset:
    """A map-style data set that reads its samples from files.

    Args:
        records: in the order of the samples.
        label_reader: makes ids, (H, W) integers, from the path of a label.
    """

    def __init__(
        self, records: Iterable[FileRecord], *, label_reader: Callable[[str], np.ndarray] = read_label
    ) -> None:
        self._records = PackedRecords(astuple(record) for record in records)
        self._read_label = label_reader

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int) -> RawSample:
        record = FileRecord(*self._records[index])
        sample: RawSample = {
            "image": read_image(record.image),
            "image_id": record.image_id,
            "file_name": record.image,
        }
        if record.label:
            sample["sem_seg"] = self._read_label(record.label)
        return sample

    def file_name(self, index: int) -> str:
        """See `dl_lib.data.naming.NamesFiles`."""
        return FileRecord(*self._records[index]).image

    def fingerprint(self) -> str:
        """See `dl_lib.data.fingerprint.Fingerprinted`."""
        records = (FileRecord(*self._records[index]) for index in range(len(self)))
        paths = (path for record in records for path in (record.image, record.label) if path)
        return fingerprint_files(paths, about=self._records.digest())


def find_files(folder: Path, *, endings: Iterable[str], flat: bool = False) -> dict[str, str]:
    """The files below a folder by their names in it.

    Args:
        folder: which exists; links in it are followed.
        endings: of the names looked for, such as `_leftImg8bit.png`, in whatever letter case. Other files and hidden
            ones are left alone.
        flat: leave the folders between out of the names.

    Returns:
        Paths by name: relative to the folder, with `/` on every system and without the ending.

    Raises:
        UnreadableFileError: if a folder cannot be listed.
        DataError: if two files have the same name.
    """
    folded = tuple(ending.casefold() for ending in endings)
    found: dict[str, str] = {}
    for parent, _, file_names in os.walk(folder, followlinks=True, onerror=_refuse):
        for file_name in file_names:
            ending = next((ending for ending in folded if file_name.casefold().endswith(ending)), None)
            if ending is None or file_name.startswith("."):
                continue
            path = Path(parent, file_name)
            name = (file_name if flat else path.relative_to(folder).as_posix())[: -len(ending)]
            if name in found:
                raise DataError(
                    f"two files in {folder} have the same name {name!r}, and what belongs to the one could belong to "
                    f"the other; rename one or take it away. Received: {sorted([str(path), found[name]])}"
                )
            found[name] = str(path)
    return found


def pair_files(
    names: Iterable[str], *, images: Mapping[str, str], labels: Mapping[str, str] | None = None
) -> PairedFiles:
    """Bring together what has the same name.

    Args:
        names: those to look for, all different.
        images: paths by name.
        labels: paths by name; None for a data set without ground truth, where an image is enough.
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


def file_dataset(
    paired: PairedFiles, *, place: str, label_reader: Callable[[str], np.ndarray] = read_label
) -> FileDataset:
    """The data set of what was found, if everything has its partner.

    Args:
        paired: what was found.
        place: where it was looked for, for the message.
        label_reader: makes ids from the path of a label.

    Raises:
        UnpairedFilesError: if something has no partner; it carries what was found and the data set of the pairs.
        MissingDataError: if there is nothing at all.
    """
    dataset = FileDataset(paired.records, label_reader=label_reader)
    unpaired = len(paired.without_label), len(paired.without_image)
    if any(unpaired):
        raise UnpairedFilesError(
            f"not everything in {place} has its partner: {_some(paired.without_label)} without a label, "
            f"{_some(paired.without_image)} without an image, and {len(dataset)} as they should be. Add what is "
            "missing or take away what is too much; dl_lib check-dataset lists all of it. "
            f"Received: without_label={unpaired[0]}, without_image={unpaired[1]}",
            paired=paired,
            usable=dataset,
        )
    if not paired.records:
        raise MissingDataError(f"there are no images in {place}. Received: 0 images")
    return dataset


def _refuse(error: OSError) -> None:
    """`os.walk` would go on without a folder that it cannot list."""
    raise UnreadableFileError(f"{error.filename} cannot be listed. Received: {error.strerror}") from error


def _some(names: tuple[str, ...]) -> str:
    """How many there are, and the first few of them."""
    shown = ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
    return f"{len(names)} ({shown})" if names else "none"
