"""Raw samples, and the protocols a map-style dataset of raw samples can implement."""

from __future__ import annotations

import hashlib
import os
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sized
from typing import Any, Protocol, TypedDict, runtime_checkable

import numpy as np
from torch.utils.data import ConcatDataset, Subset

__all__ = [
    "HasFileName",
    "HasFingerprint",
    "HasImageSize",
    "HasLabel",
    "HasLabelPalette",
    "RawDataset",
    "RawSample",
    "fingerprint_files",
    "image_size",
    "sample_name",
    "sampled_indices",
]


class _RequiredKeys(TypedDict):
    image: np.ndarray
    image_id: str
    file_name: str


class RawSample(_RequiredKeys, total=False):
    """One sample as the dataset returns it, before the mapper.

    Attributes:
        image: (H, W, 3) uint8, RGB.
        image_id: Identifier, unique within the dataset.
        file_name: File the image was read from; generated images repeat their `image_id`.
        sem_seg: (H, W) class ids or the ignore index, any integer dtype. Absent in datasets without ground truth.
    """

    sem_seg: np.ndarray


class RawDataset(Protocol):
    """Map-style dataset of raw samples. The same index always returns the same sample."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> RawSample: ...


@runtime_checkable
class HasFileName(Protocol):
    """Dataset that knows the file of each sample, so that errors can name it."""

    def file_name(self, index: int) -> str:
        """Return the `file_name` of a sample without reading the sample."""
        ...


@runtime_checkable
class HasFingerprint(Protocol):
    """Dataset that can detect changes of its samples, so that they can be cached."""

    def fingerprint(self) -> str:
        """Return a string that changes whenever a sample may have changed, without reading the samples."""
        ...


@runtime_checkable
class HasImageSize(Protocol):
    """Dataset that knows the size of its images without decoding them."""

    def image_size(self, index: int) -> tuple[int, int]:
        """Return height and width of an image in pixels; raises a DataError if its file cannot be read."""
        ...


@runtime_checkable
class HasLabel(Protocol):
    """Dataset that reads labels without images, and keeps no open files that forked processes would share."""

    def label(self, index: int) -> np.ndarray:
        """Return the `sem_seg` of a sample; raises a DataError if it cannot be read."""
        ...


@runtime_checkable
class HasLabelPalette(Protocol):
    """Dataset whose label files can have palettes of colors."""

    def label_palette(self, index: int) -> Mapping[int, tuple[int, int, int]]:
        """Return the color of each palette index in a label file; empty if its ids are no palette indices."""
        ...


def sample_name(dataset: Any, index: int) -> str:
    """Return the file of a sample; without a `file_name` method, its index and the class of its dataset.

    Args:
        dataset: Dataset of raw samples, or a `ConcatDataset` or `Subset` of such datasets.
        index: Index of the sample.
    """
    dataset, index = _source(dataset, index)
    if isinstance(dataset, HasFileName):
        return dataset.file_name(index)
    return f"index {index} of {type(dataset).__name__}"


def image_size(dataset: Any, index: int) -> tuple[int, int]:
    """Return height and width of an image; without an `image_size` method, the sample is read.

    Args:
        dataset: Dataset of raw samples, or a `ConcatDataset` or `Subset` of such datasets.
        index: Index of the sample.

    Raises:
        DataError: If the image cannot be read.
    """
    dataset, index = _source(dataset, index)
    if isinstance(dataset, HasImageSize):
        return dataset.image_size(index)
    height, width = dataset[index]["image"].shape[:2]
    return height, width


def _source(dataset: Any, index: int) -> tuple[Any, int]:
    """Return the dataset that a `ConcatDataset` or `Subset` takes a sample from, and the index there."""
    if isinstance(dataset, ConcatDataset):
        position = bisect_right(dataset.cumulative_sizes, index)
        offset = dataset.cumulative_sizes[position - 1] if position else 0
        return _source(dataset.datasets[position], index - offset)
    if isinstance(dataset, Subset):
        return _source(dataset.dataset, int(dataset.indices[index]))
    return dataset, index


def sampled_indices(dataset: Sized, *, limit: int) -> list[int]:
    """Return at most `limit` evenly spaced indices of a dataset, from the first to the last sample."""
    return np.linspace(0, len(dataset) - 1, min(limit, len(dataset))).round().astype(int).tolist()


def fingerprint_files(paths: Iterable[str], *, extra: str = "") -> str:
    """Return a SHA-256 digest of the paths, sizes and modification times of files, in the given order.

    Args:
        paths: Files to include. The digest also records which of them do not exist.
        extra: Everything else the samples depend on.
    """
    digest = hashlib.sha256(extra.encode())
    for path in paths:
        try:
            status = os.stat(path)
        except OSError:
            state = "missing"
        else:
            state = f"{status.st_size} {status.st_mtime_ns}"
        digest.update(f"\0{path}\0{state}".encode(errors="surrogateescape"))
    return digest.hexdigest()
