"""Decoded samples in one file per data set, mapped into memory: `DATALOADER.CACHE: memmap`.

A file holds the arrays one after the other, each at a multiple of 64 bytes, then an index in JSON, and a trailer by
which a whole file is known. It is written beside its place and renamed, by one process while others
wait at a lock; what bears the name is whole. Processes map it read-only, so that the operating system keeps one copy
of its pages for all of them, and only the pages are read that a sample's window needs.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import secrets
import shutil
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote

import numpy as np

from dl_lib.data.errors import DataError
from dl_lib.data.raw_dataset import HasFingerprint, RawDataset, RawSample, sample_name
from dl_lib.data.serialized_list import SerializedList
from dl_lib.utils.files import open_atomically
from dl_lib.utils.progress import progress_bar

__all__ = ["CacheError", "CachedDataset", "cached_dataset"]

_ALIGNMENT = 64
_TRAILER = struct.Struct("<Q8s8s")  # where the index begins, by what the file is told from others, the signature
_SIGNATURE = b"dlcache1"
_SAMPLES_TO_JUDGE = 16  # from so many on, their mean size tells how much the whole set will need
_ARRAYS = ("image", "sem_seg")
_UNUSABLE = (OSError, ValueError, TypeError)  # a file that is not there, too short, or damaged
_BYTES_PER_GB = 1e9

_log = logging.getLogger(__name__)


class CacheError(DataError):
    """A cache that cannot be made or used."""


@dataclass(frozen=True)
class _Index:
    """What stands at the end of a file.

    Attributes:
        fingerprint: of the data set, and of the library that read it.
        records: of each sample, the place, shape and type of its arrays, and its names; None for one that could not
            be read.
        made: eight bytes, others for each file ever written.
    """

    fingerprint: str
    records: list[dict[str, Any] | None]
    made: bytes


class CachedDataset:
    """The samples of a data set from its cache; the arrays are read-only views of the file.

    A sample that could not be read when the cache was made is asked of the data set itself, with whatever error that
    gives.
    """

    def __init__(self, dataset: RawDataset, path: Path, index: _Index) -> None:
        self.path = path
        self._dataset = dataset
        self._made = index.made
        self._records = SerializedList(index.records)
        self._map: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int) -> RawSample:
        record = self._records[index]
        if record is None:
            return self._dataset[index]
        sample: RawSample = {
            "image": self._array(*record["image"]),
            "image_id": record["image_id"],
            "file_name": record["file_name"],
        }
        if "sem_seg" in record:
            sample["sem_seg"] = self._array(*record["sem_seg"])
        return sample

    def file_name(self, index: int) -> str:
        """See `dl_lib.data.raw_dataset.HasFileName`."""
        record = self._records[index]
        return sample_name(self._dataset, index) if record is None else str(record["file_name"])

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_map": None}  # another process maps the file itself; the map would go there whole

    def _array(self, start: int, shape: list[int], dtype: str) -> np.ndarray:
        if self._map is None:
            self._map = self._mapped()
        stop = start + int(np.prod(shape)) * np.dtype(dtype).itemsize
        return self._map[start:stop].view(dtype).reshape(shape)

    def _mapped(self) -> np.ndarray:
        received = "another file"
        try:
            with self.path.open("rb") as file:
                if _read_trailer(file)[1] == self._made:
                    return np.asarray(np.memmap(file, np.uint8, mode="r"))
        except _UNUSABLE as error:
            received = str(error)
        raise CacheError(
            f"the cache {self.path} was taken away or made anew since this run began; start the run again. "
            f"Received: {received}"
        )


def cached_dataset(dataset: RawDataset, *, name: str, folder: Path) -> CachedDataset:
    """A data set's samples from its cache, which is made first where there is none or the data set has changed.

    Args:
        dataset: knows its fingerprint.
        name: of the data set; the file is named after it.
        folder: of the file; is made where it does not exist.

    Raises:
        CacheError: if the data set knows no fingerprint, or the file cannot be written.
    """
    if not isinstance(dataset, HasFingerprint):
        raise CacheError(
            f"the data set {name} cannot be cached, because nothing tells when its samples have changed; give it a "
            "method fingerprint() that returns a text which changes with them (see dl_lib.data.raw_dataset), or set "
            f"DATALOADER.CACHE to none. Received: {type(dataset).__name__}"
        )
    path = folder / f"{quote(name, safe='')}.cache"
    fingerprint = f"dl_lib {version('dl_lib')} {dataset.fingerprint()}"
    index = _read_index(path, fingerprint)
    if index is None:
        with _writing(folder, name), _lock(path):
            index = _read_index(path, fingerprint)  # while this process waited, another one may have made it
            if index is None:
                _write(dataset, path, name=name, fingerprint=fingerprint)
                index = _read_index(path, fingerprint)
                assert index is not None
    return CachedDataset(dataset, path, index)


def _read_index(path: Path, fingerprint: str) -> _Index | None:
    """The index of a whole file with this fingerprint; None if there is no such file."""
    try:
        with path.open("rb") as file:
            start, made = _read_trailer(file)
            file.seek(start)
            index = _Index(**json.loads(file.read()[: -_TRAILER.size]), made=made)
    except _UNUSABLE:
        return None
    return index if index.fingerprint == fingerprint else None


def _read_trailer(file: IO[bytes]) -> tuple[int, bytes]:
    """Where the index begins, and by what the file is told from others.

    Raises:
        OSError: if the file is too short for a trailer.
        ValueError: if this is none.
    """
    file.seek(-_TRAILER.size, os.SEEK_END)
    start, made, signature = _TRAILER.unpack(file.read())
    if signature != _SIGNATURE:
        raise ValueError(f"this is no whole cache. Received: signature={signature!r}")
    return start, made


def _write(dataset: RawDataset, path: Path, *, name: str, fingerprint: str) -> None:
    if path.exists():
        _log.info("the cache %s is not that of %s as it is now, and is made anew", path, name)
    records: list[dict[str, Any] | None] = []
    with open_atomically(path) as file, progress_bar(len(dataset), description=f"caching {name}", unit="image") as bar:
        for number in range(len(dataset)):
            records.append(_write_sample(file, dataset, number))
            _check_space(file, path, done=number + 1, total=len(dataset))
            bar.update()
        start = file.tell()
        file.write(json.dumps({"fingerprint": fingerprint, "records": records}, separators=(",", ":")).encode())
        file.write(_TRAILER.pack(start, secrets.token_bytes(8), _SIGNATURE))
    _log.info("the decoded samples of %s are in %s: %.2f GB", name, path, path.stat().st_size / _BYTES_PER_GB)


def _write_sample(file: IO[bytes], dataset: RawDataset, number: int) -> dict[str, Any] | None:
    try:
        sample = dataset[number]
    except DataError as error:
        _log.warning("sample %d is not in the cache: %s", number, error)
        return None
    record: dict[str, Any] = {"image_id": sample["image_id"], "file_name": sample["file_name"]}
    for name in _ARRAYS:
        if name in sample:
            array: np.ndarray = sample[name]  # type: ignore[literal-required]
            file.write(bytes(-file.tell() % _ALIGNMENT))
            record[name] = [file.tell(), array.shape, array.dtype.str]
            file.write(np.ascontiguousarray(array).data)
    return record


def _check_space(file: IO[bytes], path: Path, *, done: int, total: int) -> None:
    """Refuse to go on where the disk will not hold the rest, before it is full for everyone."""
    if done < min(_SAMPLES_TO_JUDGE, total):
        return
    needed, free = file.tell() / done * (total - done), shutil.disk_usage(path.parent).free
    if needed > free:
        raise CacheError(
            f"the disk is too small for {path}: after {done} of {total} samples, about {needed / _BYTES_PER_GB:.2f} GB "
            f"more are needed and {free / _BYTES_PER_GB:.2f} GB are free. Make room, or name another folder as "
            f"DATALOADER.CACHE_DIR. Received: folder={str(path.parent)!r}"
        )


@contextmanager
def _writing(folder: Path, name: str) -> Iterator[None]:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise CacheError(
            f"the cache of {name} cannot be written: {error}. Make room for it there or name another folder as "
            f"DATALOADER.CACHE_DIR. Received: folder={str(folder)!r}"
        ) from error


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    """One process at a time; a process that dies lets go."""
    with path.with_suffix(".lock").open("wb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _log.info("waiting for another process that makes the cache %s", path)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
