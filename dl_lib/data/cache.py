"""Memory-mapped cache of decoded samples, one file per dataset (`DATALOADER.CACHE: memmap`).

A file consists of the arrays, each aligned to 64 bytes, an index in JSON, and a trailer that marks the file as
complete. It is written atomically (temporary file, then rename) by one process while others wait for a lock. Processes
map it read-only: the operating system shares its pages between them, and reads only the pages that are accessed, such
as those of a crop. The checksum of a sample is verified when it is first read; a damaged sample is read from the
original dataset instead.
"""

from __future__ import annotations

import fcntl
import json
import logging
import mmap
import os
import secrets
import shutil
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote

import numpy as np

from dl_lib.data.errors import DataError
from dl_lib.data.raw_dataset import HasFingerprint, RawDataset, RawSample, image_size, sample_name
from dl_lib.data.serialized_list import SerializedList
from dl_lib.utils.files import open_atomically, open_regular
from dl_lib.utils.folder_lock import CANNOT_LOCK
from dl_lib.utils.progress import progress_bar

__all__ = ["CacheError", "CachedDataset", "cached_dataset"]

_ALIGNMENT = 64
_TRAILER = struct.Struct("<Q8s8s")  # offset of the index, file id, magic number
_MAX_INDEX_BYTES = 2**30  # more than for a million samples
_FILE_ID = struct.Struct("<I4s")  # CRC-32 of the index, random bytes
_MAGIC = b"dlcache2"
_MIN_SAMPLES_FOR_ESTIMATE = 16  # samples written before their mean size is extrapolated to the whole dataset
_ARRAYS = ("image", "sem_seg")
_INVALID_FILE_ERRORS = (OSError, ValueError, TypeError)  # missing, truncated or damaged
_UNVERIFIED, _INTACT, _DAMAGED = range(3)  # states of a sample
_BYTES_PER_GB = 1e9

_log = logging.getLogger(__name__)


class CacheError(DataError):
    """Cache that cannot be built or read."""


@dataclass(frozen=True)
class _Index:
    """Index of a cache file.

    Attributes:
        fingerprint: Fingerprint of the dataset, and version of dl_lib.
        records: For each sample, offset, shape and dtype of its arrays, their checksum, its image id and file name;
            None for a sample that could not be read.
        file_id: Checksum of the index, and random bytes, so that it is different for each file written.
    """

    fingerprint: str
    records: list[dict[str, Any] | None]
    file_id: bytes


class CachedDataset:
    """Dataset that reads its samples from a cache file; the arrays are read-only views of the file.

    A sample that could not be read when the cache was built, or is damaged in the file, is read from the original
    dataset, which raises its errors.
    """

    def __init__(self, dataset: RawDataset, path: Path, index: _Index) -> None:
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
        if self._states[index] == _UNVERIFIED and _checksum(sample) != record["crc32"]:
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
                if _read_trailer(file)[1] == self._file_id:
                    return np.asarray(np.memmap(file, np.uint8, mode="r"))
        except _INVALID_FILE_ERRORS as error:
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
    index = _read_index(path, fingerprint)
    if index is None:
        with _write_errors(folder, name), _lock(path):
            index = _read_index(path, fingerprint)  # another process may have built it during the wait for the lock
            if index is None:
                _write(dataset, path, name=name, fingerprint=fingerprint)
                index = _read_index(path, fingerprint)
                assert index is not None
    return CachedDataset(dataset, path, index)


def _read_index(path: Path, fingerprint: str) -> _Index | None:
    """Return the index of a complete cache file with this fingerprint, else None."""
    try:
        with open_regular(path) as file:
            start, file_id = _read_trailer(file)
            file.seek(start)
            text = file.read()[: -_TRAILER.size]
        if zlib.crc32(text) != _FILE_ID.unpack(file_id)[0]:
            return None
        index = _Index(**json.loads(text), file_id=file_id)
    except _INVALID_FILE_ERRORS:
        return None
    return index if index.fingerprint == fingerprint else None


def _read_trailer(file: IO[bytes]) -> tuple[int, bytes]:
    """Return the offset of the index and the file id; raise an OSError or ValueError if the file is incomplete."""
    end = file.seek(-_TRAILER.size, os.SEEK_END)
    start, file_id, magic = _TRAILER.unpack(file.read())
    if magic != _MAGIC or not 0 <= end - start <= _MAX_INDEX_BYTES:
        raise ValueError(f"not a complete cache file. Received: magic={magic!r}, index of {end - start} bytes")
    return start, file_id


def _write(dataset: RawDataset, path: Path, *, name: str, fingerprint: str) -> None:
    if path.exists():
        _log.info("Rebuilding stale decode cache of %s at %s", name, path)
    records: list[dict[str, Any] | None] = []
    with open_atomically(path) as file, progress_bar(len(dataset), description=f"Caching {name}", unit="image") as bar:
        for number in range(len(dataset)):
            records.append(_write_sample(file, dataset, number))
            _check_disk_space(file, path, done=number + 1, total=len(dataset))
            bar.update()
        start = file.tell()
        text = json.dumps({"fingerprint": fingerprint, "records": records}, separators=(",", ":")).encode()
        file_id = _FILE_ID.pack(zlib.crc32(text), secrets.token_bytes(4))
        file.write(text + _TRAILER.pack(start, file_id, _MAGIC))
    _log.info("Built decode cache of %s at %s (%.2f GB)", name, path, path.stat().st_size / _BYTES_PER_GB)


def _write_sample(file: IO[bytes], dataset: RawDataset, number: int) -> dict[str, Any] | None:
    try:
        sample = dataset[number]
    except DataError as error:
        _log.warning("Skipped caching of invalid sample %d: %s", number, error)
        return None
    record: dict[str, Any] = {"image_id": sample["image_id"], "file_name": sample["file_name"]}
    for name in _ARRAYS:
        if name in sample:
            array: np.ndarray = sample[name]  # type: ignore[literal-required]
            file.write(bytes(-file.tell() % _ALIGNMENT))
            record[name] = [file.tell(), array.shape, array.dtype.str]
            file.write(np.ascontiguousarray(array).data)
    record["crc32"] = _checksum(sample)
    return record


def _checksum(sample: RawSample) -> int:
    """Return the CRC-32 of the arrays; it takes about 1 ms for an image and label of 1024 x 2048 pixels."""
    checksum = 0
    for name in _ARRAYS:
        if name in sample:
            array: np.ndarray = sample[name]  # type: ignore[literal-required]
            checksum = zlib.crc32(np.ascontiguousarray(array).data, checksum)
    return checksum


def _check_disk_space(file: IO[bytes], path: Path, *, done: int, total: int) -> None:
    """Raise an error before the disk is full, which would affect every other process as well."""
    if done < min(_MIN_SAMPLES_FOR_ESTIMATE, total):
        return
    needed, free = file.tell() / done * (total - done), shutil.disk_usage(path.parent).free
    if needed > free:
        raise CacheError(
            f"not enough disk space for the cache {path}: after {done} of {total} samples, about "
            f"{needed / _BYTES_PER_GB:.2f} GB more are needed but {free / _BYTES_PER_GB:.2f} GB are free. Free disk "
            f"space or set DATALOADER.CACHE_DIR to another folder. Received: folder={str(path.parent)!r}"
        )


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
