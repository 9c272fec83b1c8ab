"""Memory-mapped cache of decoded samples, one file per dataset (`DATALOADER.CACHE: memmap`).

One process writes the file while others wait for a lock. Processes map it read-only: the operating system shares its
pages between them, and reads only the pages that are accessed, such as those of a crop. The checksum of a sample is
verified when it is first read; a damaged sample is read from the original dataset instead.
"""

from __future__ import annotations

import fcntl
import logging
import mmap
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from dl_lib.data.cache_file import (
    INVALID_FILE_ERRORS,
    CacheError,
    CacheIndex,
    checksum,
    read_index,
    read_trailer,
    write_cache,
)
from dl_lib.data.raw_dataset import HasFingerprint, RawDataset, RawSample, image_size, sample_name
from dl_lib.data.serialized_list import SerializedList
from dl_lib.utils.files import open_regular
from dl_lib.utils.folder_lock import CANNOT_LOCK

__all__ = ["CacheError", "CachedDataset", "cached_dataset"]

_UNVERIFIED, _INTACT, _DAMAGED = range(3)  # states of a sample

_log = logging.getLogger(__name__)


class CachedDataset:
    """Dataset that reads its samples from a cache file; the arrays are read-only views of the file.

    A sample that could not be read when the cache was built, or is damaged in the file, is read from the original
    dataset, which raises its errors.
    """

    def __init__(self, dataset: RawDataset, path: Path, index: CacheIndex) -> None:
        self.path = path
        self._dataset = dataset
        self._file_id = index.file_id
        self._records = SerializedList(index.records)
        self._map: np.ndarray | None = None
        self._states = self._new_states()

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int) -> RawSample:
        record = self._records[index]
        sample = self._intact_sample(index, record) if record and self._states[index] != _DAMAGED else None
        return self._dataset[index] if sample is None else sample

    def _intact_sample(self, index: int, record: dict[str, Any]) -> RawSample | None:
        """Return a sample of the file, or None if it is damaged; its checksum is verified once."""
        sample: RawSample = {
            "image": self._array(*record["image"]),
            "image_id": record["image_id"],
            "file_name": record["file_name"],
        }
        if "sem_seg" in record:
            sample["sem_seg"] = self._array(*record["sem_seg"])
        if self._states[index] == _UNVERIFIED and checksum(sample) != record["crc32"]:
            self._states[index] = _DAMAGED
            _log.warning(
                "Damaged sample %d in the cache %s; reading its original instead: %s. Delete the cache to rebuild it",
                *(index, self.path, record["file_name"]),
            )
            return None
        self._states[index] = _INTACT
        return sample

    def _new_states(self) -> mmap.mmap:
        """Return one byte per sample, shared with forked processes, so that one of them verifies a sample for all."""
        return mmap.mmap(-1, max(len(self), 1))

    def file_name(self, index: int) -> str:
        record = self._records[index]
        return sample_name(self._dataset, index) if record is None else str(record["file_name"])

    def image_size(self, index: int) -> tuple[int, int]:
        record = self._records[index]
        if record is None:
            return image_size(self._dataset, index)
        height, width, _ = record["image"][1]
        return height, width

    def __getstate__(self) -> dict[str, Any]:
        # Pickling would copy the whole file; each process maps it itself.
        return {key: value for key, value in self.__dict__.items() if key not in ("_map", "_states")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _map=None)
        self._states = self._new_states()

    def _array(self, start: int, shape: list[int], dtype: str) -> np.ndarray:
        if self._map is None:
            self._map = self._open_map()
        stop = start + int(np.prod(shape)) * np.dtype(dtype).itemsize
        return self._map[start:stop].view(dtype).reshape(shape)

    def _open_map(self) -> np.ndarray:
        received = "another file"
        try:
            with open_regular(self.path) as file:
                if read_trailer(file)[1] == self._file_id:
                    return np.asarray(np.memmap(file, np.uint8, mode="r"))
        except INVALID_FILE_ERRORS as error:
            received = str(error)
        raise CacheError(
            f"cache {self.path} was deleted or rebuilt by another process during this run; restart the run. "
            f"Received: {received}"
        )


def cached_dataset(dataset: RawDataset, *, name: str, folder: Path) -> CachedDataset:
    """Open the cache of a dataset, `<folder>/<name>.cache`; build it first if it is missing or stale.

    Raises:
        CacheError: If the dataset has no fingerprint, or the file cannot be written.
    """
    if not isinstance(dataset, HasFingerprint):
        raise CacheError(
            f"dataset {name} cannot be cached because a stale cache could not be detected. Give its class a method "
            "fingerprint() that returns a string which changes with the samples (see dl_lib.data.raw_dataset), or set "
            f"DATALOADER.CACHE to none. Received: {type(dataset).__name__}"
        )
    path = folder / f"{quote(name, safe='')}.cache"
    fingerprint = f"dl_lib {version('dl_lib')} {dataset.fingerprint()}"
    index = read_index(path, fingerprint)
    if index is None:
        with _write_errors(folder, name), _lock(path):
            index = read_index(path, fingerprint)  # another process may have built it during the wait for the lock
            if index is None:
                write_cache(dataset, path, name=name, fingerprint=fingerprint)
                index = read_index(path, fingerprint)
                assert index is not None
    return CachedDataset(dataset, path, index)


@contextmanager
def _write_errors(folder: Path, name: str) -> Iterator[None]:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise CacheError(
            f"the cache of {name} cannot be written: {error.strerror or error}. Free disk space, fix the permissions or"
            f" set DATALOADER.CACHE_DIR to another folder. Received: folder={str(folder)!r}"
        ) from error


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    """Hold an exclusive lock, which the system releases if the process dies."""
    with path.with_suffix(".lock").open("wb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _log.info("Waiting for another process that is building the cache %s", path)
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError as error:
            if error.errno not in CANNOT_LOCK:
                raise
            _log.warning("%s cannot be locked (%s); each process builds the cache", path.parent, error.strerror)
        yield
