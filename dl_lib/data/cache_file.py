"""Cache files of decoded samples.

A file consists of the arrays, each aligned to 64 bytes, an index in JSON, and a trailer that marks the file as
complete. The index has a checksum of each sample; the trailer has one of the index.
"""

from __future__ import annotations

import json
import logging
import os
import secrets
import shutil
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from dl_lib.data.errors import DataError
from dl_lib.data.raw_dataset import RawDataset, RawSample
from dl_lib.utils.files import open_atomically, open_regular
from dl_lib.utils.progress import progress_bar

__all__ = ["INVALID_FILE_ERRORS", "CacheError", "CacheIndex", "checksum", "read_index", "read_trailer", "write_cache"]

INVALID_FILE_ERRORS = (OSError, ValueError, TypeError)  # missing, truncated or damaged

_ALIGNMENT = 64
_TRAILER = struct.Struct("<Q8s8s")  # offset of the index, file id, magic number
_MAX_INDEX_BYTES = 2**30  # more than for a million samples
_FILE_ID = struct.Struct("<I4s")  # CRC-32 of the index, random bytes
_MAGIC = b"dlcache2"
_MIN_SAMPLES_FOR_ESTIMATE = 16  # samples written before their mean size is extrapolated to the whole dataset
_ARRAYS = ("image", "sem_seg")
_BYTES_PER_GB = 1e9

_log = logging.getLogger(__name__)


class CacheError(DataError):
    """Cache that cannot be built or read."""


@dataclass(frozen=True)
class CacheIndex:
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


def read_index(path: Path, fingerprint: str) -> CacheIndex | None:
    """Return the index of a complete cache file with this fingerprint, else None."""
    try:
        with open_regular(path) as file:
            start, file_id = read_trailer(file)
            file.seek(start)
            text = file.read()[: -_TRAILER.size]
        if zlib.crc32(text) != _FILE_ID.unpack(file_id)[0]:
            return None
        index = CacheIndex(**json.loads(text), file_id=file_id)
    except INVALID_FILE_ERRORS:
        return None
    return index if index.fingerprint == fingerprint else None


def read_trailer(file: IO[bytes]) -> tuple[int, bytes]:
    """Return the offset of the index and the file id; raise an OSError or ValueError if the file is incomplete."""
    end = file.seek(-_TRAILER.size, os.SEEK_END)
    start, file_id, magic = _TRAILER.unpack(file.read())
    if magic != _MAGIC or not 0 <= end - start <= _MAX_INDEX_BYTES:
        raise ValueError(f"not a complete cache file. Received: magic={magic!r}, index of {end - start} bytes")
    return start, file_id


def write_cache(dataset: RawDataset, path: Path, *, name: str, fingerprint: str) -> None:
    """Write the samples of a dataset to a file, which appears when it is complete.

    Raises:
        CacheError: If the disk is too small.
        OSError: If the file cannot be written.
    """
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
    record["crc32"] = checksum(sample)
    return record


def checksum(sample: RawSample) -> int:
    """Return the CRC-32 of the arrays; `docs/performance.md` states its cost."""
    crc = 0
    for name in _ARRAYS:
        if name in sample:
            array: np.ndarray = sample[name]  # type: ignore[literal-required]
            crc = zlib.crc32(np.ascontiguousarray(array).data, crc)
    return crc


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
