"""npz files of an evaluation.

They are read with bounded memory and without pickle, because they may come from another machine, and every damage is
one error.
"""

from __future__ import annotations

import io
import math
import zipfile
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import TypeVar

import numpy as np

from dl_lib.evaluation.report.checked_file import read_checked

__all__ = ["Arrays", "arrays_as_npz", "read_npz", "unique_names"]

Arrays = Mapping[str, np.ndarray]
T = TypeVar("T")

_MAX_BYTES = 2**30  # of the file, and of the arrays together
_COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # of NumPy; others allocate what the file states


def arrays_as_npz(arrays: Arrays) -> bytes:
    """Return an npz file, the same bytes for the same arrays; uint8 arrays are stored, others are compressed.

    `numpy.load` reads it without pickle.
    """
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, array in arrays.items():
            entry = zipfile.ZipInfo(f"{name}.npy")  # without the time of day
            entry.compress_type = zipfile.ZIP_STORED if array.dtype == np.uint8 else zipfile.ZIP_DEFLATED
            with archive.open(entry, "w") as member:
                np.lib.format.write_array(member, array, version=(1, 0), allow_pickle=False)
    return file.getvalue()


def read_npz(
    path: Path,
    parse: Callable[[Arrays], T],
    *,
    names: Collection[str],
    optional: Collection[str] = (),
    contents: str,
    advice: str,
) -> T:
    """Read arrays of an npz file and convert them.

    Args:
        path: File.
        parse: Function that checks and converts the arrays; any exception means that the file is damaged.
        names: Names of the arrays.
        optional: Names of arrays that may be missing.
        contents: What the file contains, for the error.
        advice: How to create the file, for the error.

    Raises:
        ConfigError: If it is missing, damaged, or a file of another kind.
    """
    return read_checked(
        path,
        lambda data: parse(_read_arrays(data, names=names, optional=optional)),
        max_bytes=_MAX_BYTES,
        contents=f"a file with {contents}",
        advice=advice,
    )


def unique_names(names: np.ndarray) -> tuple[str, ...]:
    """Return the names in an array (N,) of strings.

    Raises:
        ValueError: If it is another array, or a name is repeated.
    """
    if names.dtype.kind != "U" or names.ndim != 1:
        raise ValueError(f"names have dtype {names.dtype} and shape {names.shape}")
    values = tuple(names.tolist())
    if len({*values}) < len(values):
        raise ValueError("a name is repeated")
    return values


def _read_arrays(data: bytes, *, names: Collection[str], optional: Collection[str]) -> dict[str, np.ndarray]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        present = {*archive.namelist()}
        entries = {name: archive.getinfo(f"{name}.npy") for name in names}
        entries |= {name: archive.getinfo(f"{name}.npy") for name in optional if f"{name}.npy" in present}
        if sum(entry.file_size for entry in entries.values()) > _MAX_BYTES:
            sizes = ", ".join(f"{name} has {entry.file_size} bytes" for name, entry in entries.items())
            raise ValueError(f"more than {_MAX_BYTES} bytes: {sizes}")
        return {name: _read_array(archive, entry, name=name) for name, entry in entries.items()}


def _read_array(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, *, name: str) -> np.ndarray:
    """Read an array whose header states the size of its data, so that no other size is allocated."""
    if entry.compress_type not in _COMPRESSIONS:
        raise ValueError(f"{name} has compression {entry.compress_type}")
    with archive.open(entry) as member:
        file = io.BytesIO(member.read(entry.file_size))  # without a size, it would expand more than the entry states
    version = np.lib.format.read_magic(file)
    if version != (1, 0):
        raise ValueError(f"{name} has version {version}")
    shape, _, dtype = np.lib.format.read_array_header_1_0(file)
    if dtype.hasobject or file.tell() + math.prod(shape) * dtype.itemsize != entry.file_size:
        raise ValueError(f"{name} of {entry.file_size} bytes has shape {shape} and dtype {dtype}")
    file.seek(0)
    return np.load(file, allow_pickle=False)
