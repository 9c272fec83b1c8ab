"""Dataset of image files and label files."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import astuple

import numpy as np

from dl_lib.data.catalog import Color
from dl_lib.data.errors import MissingDataError
from dl_lib.data.files import FileRecord, PairedFiles, UnpairedFilesError
from dl_lib.data.label_conversion import ColorReader
from dl_lib.data.raw_dataset import RawSample, fingerprint_files
from dl_lib.data.reading import read_image, read_image_size, read_label, read_label_palette
from dl_lib.data.serialized_list import SerializedList

__all__ = ["FileDataset", "build_file_dataset"]

_MAX_SHOWN = 3  # names per list in an error message


class FileDataset:
    """Map-style dataset of image files and label files.

    Args:
        records: Files of each sample.
        label_reader: Function that returns the (H, W) integer ids of a label file.
        label_settings: Settings of the label reader, part of the fingerprint.
    """

    def __init__(
        self,
        records: Iterable[FileRecord],
        *,
        label_reader: Callable[[str], np.ndarray] = read_label,
        label_settings: str = "",
    ) -> None:
        self._records = SerializedList(astuple(record) for record in records)
        self._read_label = label_reader
        self._label_settings = label_settings

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

    def label(self, index: int) -> np.ndarray:
        return self._read_label(FileRecord(*self._records[index]).label)

    def label_palette(self, index: int) -> Mapping[int, Color]:
        if isinstance(self._read_label, ColorReader):  # indices have no meaning
            return {}
        return read_label_palette(FileRecord(*self._records[index]).label)

    def file_name(self, index: int) -> str:
        return FileRecord(*self._records[index]).image

    def image_size(self, index: int) -> tuple[int, int]:
        return read_image_size(FileRecord(*self._records[index]).image)

    def fingerprint(self) -> str:
        records = (FileRecord(*self._records[index]) for index in range(len(self)))
        paths = (path for record in records for path in (record.image, record.label) if path)
        return fingerprint_files(paths, extra=self._records.digest() + self._label_settings)


def build_file_dataset(
    paired: PairedFiles,
    *,
    location: str,
    label_reader: Callable[[str], np.ndarray] = read_label,
    label_settings: str = "",
    hint: str = "",
) -> FileDataset:
    """Build the dataset of paired files, provided that all files are paired.

    Args:
        paired: Files.
        location: Folders, for the error message.
        label_reader: Function that returns the (H, W) integer ids of a label file.
        label_settings: Settings of the label reader, part of the fingerprint.
        hint: Sentence for the error message, starting with a space.

    Raises:
        UnpairedFilesError: If a file has no counterpart. The error carries the files and the dataset of the pairs.
        MissingDataError: If there are no files.
    """
    dataset = FileDataset(paired.records, label_reader=label_reader, label_settings=label_settings)
    num_unlabelled, num_imageless = len(paired.without_label), len(paired.without_image)
    if num_unlabelled or num_imageless:
        raise UnpairedFilesError(
            f"images and labels in {location} must form pairs. Expected a label for each image and an image for each "
            f"label; found {len(dataset)} pairs; without a label: {_listed(paired.without_label)}; without an image: "
            f"{_listed(paired.without_image)}.{hint} "
            "Add the missing files or remove the others; `dl_lib check-dataset --all` lists all of them. "
            f"Received: without_label={num_unlabelled}, without_image={num_imageless}",
            paired=paired,
            usable=dataset,
            hint=hint.strip(),
        )
    if not paired.records:
        raise MissingDataError(f"{location} contains no images; extract the dataset again. Received: 0 images")
    return dataset


def _listed(names: tuple[str, ...]) -> str:
    shown = ", ".join(names[:_MAX_SHOWN]) + (", ..." if len(names) > _MAX_SHOWN else "")
    return f"{len(names)} ({shown})" if names else "none"
