"""Matrices in structs of MATLAB 5 files (https://www.mathworks.com/help/pdf_doc/matlab/matfile_format.pdf).

Every size that a file states is bounded before its use. SciPy's reader does not do this: some damaged files end the
process with a segmentation fault.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

__all__ = ["MatFileError", "read_uint8_field"]

_HEADER_BYTES = 128
_VERSION_OFFSET, _VERSION = 124, b"\x00\x01IM"  # version 1, little-endian
_TAG = struct.Struct("<II")  # type and number of bytes
_UINT8, _MATRIX, _COMPRESSED = 2, 14, 15  # types of elements
_CLASSES = ("", "cell", "struct", "object", "char", "sparse", "double", "single", "int8", "uint8")  # of matrices
_MAX_UNCOMPRESSED_BYTES = 2**28


class MatFileError(ValueError):
    """Content that is not a MATLAB 5 file with the requested matrix."""


@dataclass(frozen=True)
class _Matrix:
    name: bytes
    kind: str  # MATLAB class
    shape: tuple[int, ...]
    parts: list[tuple[int, memoryview]]  # type and content of the elements that depend on the class


def read_uint8_field(data: bytes, *, variable: str, field: str) -> np.ndarray:
    """Return a field of a struct as a (H, W) uint8 array.

    Args:
        data: Content of a MATLAB 5 file.
        variable: Name of a struct of size 1 x 1.
        field: Name of its field.

    Raises:
        MatFileError: If the content is damaged, or the field is missing or of another type.
    """
    if data[_VERSION_OFFSET:_HEADER_BYTES] != _VERSION:
        raise MatFileError(f"no MATLAB 5 file but {len(data)} bytes starting with {data[:8]!r}")
    matrices = (_parse(content) for content in _variables(memoryview(data)[_HEADER_BYTES:]))
    owner = next((matrix for matrix in matrices if matrix.name == variable.encode()), None)
    if owner is None or owner.kind != "struct":
        raise MatFileError(f"no struct {variable}")
    matrix = _parse(_field(owner, field))
    if matrix.kind != "uint8" or len(matrix.shape) != 2 or len(matrix.parts) != 1 or matrix.parts[0][0] != _UINT8:
        raise MatFileError(f"class={matrix.kind}, shape={matrix.shape}")
    pixels = np.frombuffer(matrix.parts[0][1], np.uint8)
    if min(matrix.shape) < 1 or math.prod(matrix.shape) != len(pixels):
        raise MatFileError(f"{len(pixels)} values, shape={matrix.shape}")
    return np.array(pixels.reshape(matrix.shape, order="F"), order="C")


def _variables(data: memoryview) -> Iterator[memoryview]:
    """Yield the content of the matrices of a file."""
    for kind, content in _elements(data):
        if kind == _COMPRESSED:
            decompressor = zlib.decompressobj()
            try:
                content = memoryview(decompressor.decompress(content, _MAX_UNCOMPRESSED_BYTES))
            except zlib.error as error:
                raise MatFileError(f"compressed data: {error}") from error
            if not decompressor.eof:
                raise MatFileError("compressed data that are truncated or too large")
            kind, content = next(_elements(content), (0, content))
        if kind == _MATRIX:
            yield content


def _elements(data: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Yield type and content of consecutive elements."""
    start = 0
    while start < len(data):
        kind, size = _TAG.unpack(data[start : start + _TAG.size].tobytes().ljust(_TAG.size, b"\0"))
        start += _TAG.size
        if kind >> 16:  # type and size in two bytes each; up to four bytes of content follow within the tag
            kind, size, start = kind & 0xFFFF, kind >> 16, start - 4
        if start + size > len(data):
            raise MatFileError(f"an element of {size} bytes where {len(data) - start} are left")
        yield kind, data[start : start + size]
        start += size if kind == _COMPRESSED else size + (-(start + size)) % 8


def _parse(content: memoryview) -> _Matrix:
    """Parse the elements that all matrices have: flags, sizes, name."""
    elements = list(_elements(content))
    if len(elements) < 3 or len(elements[0][1]) < 1:
        raise MatFileError(f"a matrix with {len(elements)} elements")
    (_, flags), (_, sizes), (_, name), *parts = elements
    kind = _CLASSES[flags[0]] if flags[0] < len(_CLASSES) else f"number {flags[0]}"
    if len(sizes) % 4:
        raise MatFileError(f"sizes of {len(sizes)} bytes")
    shape = tuple(np.frombuffer(sizes, "<i4").tolist())
    return _Matrix(name.tobytes(), kind, shape, parts)


def _field(matrix: _Matrix, name: str) -> memoryview:
    """Return the content of a field of a 1 x 1 struct, which lists the fixed-length names of its fields first."""
    if len(matrix.parts) < 2 or len(matrix.parts[0][1]) != 4:
        raise MatFileError("a struct without names of fields")
    (_, length), (_, text), *fields = matrix.parts
    size = int.from_bytes(length, "little")
    if not 0 < size <= len(text):
        raise MatFileError(f"names of fields with {size} bytes")
    names = [text[start : start + size].tobytes().rstrip(b"\0") for start in range(0, len(text), size)]
    if name.encode() not in names or len(names) != len(fields):
        raise MatFileError(f"no field {name}")
    return fields[names.index(name.encode())][1]
