"""Decoding of label files in memory: ids per pixel, or colors that stand for classes.

PNG, TIFF, BMP and NumPy files are read, recognized by their content. Lossy formats change ids and are refused.
"""

from __future__ import annotations

import contextlib
import io
import math
import re

import numpy as np
from PIL import Image

from dl_lib.data.decoding import (
    PNG_GRAY,
    PNG_PALETTE,
    PNG_SIGNATURE,
    FilePath,
    PngHeader,
    damaged,
    decode_image,
    decode_png,
    decode_with_pillow,
    png_header,
)
from dl_lib.data.errors import ColorLabelError, UnreadableFileError

__all__ = ["LABEL_ENDINGS", "decode_color_label", "decode_label", "smallest_dtype"]

LABEL_ENDINGS = (".png", ".tif", ".tiff", ".bmp", ".npy")

_NPY_SIGNATURE = b"\x93NUMPY"
_TIFF_AND_BMP_SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+", b"BM")
_LOSSY_COMPRESSIONS = ("jpeg", "tiff_jpeg", "webp")  # of TIFF files, in Pillow's names
_LOSSLESS_SIGNATURES = (PNG_SIGNATURE, *_TIFF_AND_BMP_SIGNATURES)
_EXACT_STORAGE = re.compile(r"L|P|P;[124]|I;16\w*|I;32\w*")  # Pillow formats that are decoded without scaling
_ID_DTYPES = (np.uint8, np.uint16, np.int16, np.uint32, np.int32, np.int64, np.uint64)
_COLOR_MODES = ("RGB", "RGBA", "RGBX", "CMYK", "LA", "PA", "YCbCr", "LAB")


def decode_label(data: bytes, path: FilePath) -> np.ndarray:
    """Decode the ids of a label file, see `dl_lib.data.reading.read_label`; the path is for messages."""
    if (header := png_header(data)) is not None:
        return _png_ids(data, path, header=header)
    if data.startswith(_NPY_SIGNATURE):
        return _npy_ids(data, path)
    if data.startswith(_TIFF_AND_BMP_SIGNATURES):
        _check_compression(data, path)
        return _tiff_or_bmp_ids(data, path)
    raise _unsupported(data, path)


def decode_color_label(data: bytes, path: FilePath) -> np.ndarray:
    """Decode the colors of a label file, see `dl_lib.data.reading.read_color_label`; the path is for messages."""
    if not data.startswith(_LOSSLESS_SIGNATURES):
        raise _unsupported(data, path)
    if data.startswith(_TIFF_AND_BMP_SIGNATURES):
        _check_compression(data, path)
    return decode_image(data, path)


def smallest_dtype(low: int, high: int) -> np.dtype:
    """Return the smallest integer type, unsigned if possible, that represents all values from `low` to `high`."""
    fitting = (dtype for dtype in _ID_DTYPES if np.iinfo(dtype).min <= low and high <= np.iinfo(dtype).max)
    return np.dtype(next(fitting))


def _png_ids(data: bytes, path: FilePath, *, header: PngHeader) -> np.ndarray:
    if header.color_type == PNG_PALETTE:
        return np.array(decode_with_pillow(data, path)[0])
    if header.color_type != PNG_GRAY:
        raise _has_colors(path, f"PNG color type {header.color_type}")
    if header.bits < 8:
        raise _has_scaled_values(path, f"bits={header.bits}")
    return decode_png(data, path, header=header)


def _check_compression(data: bytes, path: FilePath) -> None:
    """Raise UnreadableFileError if a file has a lossy compression. Damaged files pass; their decoder reports them."""
    compression = None
    with contextlib.suppress(Exception):  # the error type of damaged data depends on Pillow's reader of the format
        compression = Image.open(io.BytesIO(data)).info.get("compression")
    if compression in _LOSSY_COMPRESSIONS:
        raise UnreadableFileError(
            f"{path} has a lossy compression, which changes ids and colors; create it again as PNG, or as TIFF with "
            f"LZW. Received: compression={compression!r}"
        )


def _tiff_or_bmp_ids(data: bytes, path: FilePath) -> np.ndarray:
    image, storage = decode_with_pillow(data, path)
    if image.mode in _COLOR_MODES:
        raise _has_colors(path, f"Pillow mode {image.mode!r}")
    if not _EXACT_STORAGE.fullmatch(storage):
        if image.mode in ("1", "L"):
            raise _has_scaled_values(path, f"Pillow storage {storage!r}")
        raise UnreadableFileError(
            f"{path} must contain integer ids with 8, 16 or 32 bits per pixel. Save it as a PNG with 8 or 16 bits. "
            f"Received: Pillow storage {storage!r}"
        )
    return _compact(np.array(image))


def _npy_ids(data: bytes, path: FilePath) -> np.ndarray:
    """Parse a .npy file: the size in the header is compared with that of the file before anything is allocated."""
    file = io.BytesIO(data)
    try:
        read_header = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }[np.lib.format.read_magic(file)]
        shape, is_transposed, dtype = read_header(file)
    except Exception as error:  # the error type of damaged headers varies
        raise damaged(path, f"{type(error).__name__}: {error}") from error
    if dtype.kind not in "biu" or len(shape) != 2 or min(shape) < 1:
        raise UnreadableFileError(
            f"{path} must contain a (height, width) array of integers, one id per pixel. "
            f"Received: dtype={dtype}, shape={shape}"
        )
    expected, stored = math.prod(shape) * dtype.itemsize, len(data) - file.tell()
    if expected != stored:
        raise damaged(path, f"{stored} bytes for an array of {expected} bytes")
    dtype = np.dtype(np.uint8) if dtype.kind == "b" else dtype
    ids = np.frombuffer(data, dtype, offset=file.tell()).reshape(shape, order="F" if is_transposed else "C")
    return _compact(ids)


def _compact(ids: np.ndarray) -> np.ndarray:
    """Return ids as a writable array of the smallest integer type."""
    return np.array(ids, dtype=smallest_dtype(int(ids.min()), int(ids.max())), order="C")


def _has_colors(path: FilePath, received: str) -> ColorLabelError:
    return ColorLabelError(
        f"{path} must contain one id per pixel (grayscale with 8 or 16 bits, or a palette); if its colors stand for "
        f"classes, set COLOR_MAP (datasets/README.md). Received: {received}"
    )


def _has_scaled_values(path: FilePath, received: str) -> ColorLabelError:
    return ColorLabelError(
        f"{path} must have at least 8 bits per pixel, where 0 is black: decoders scale the values of other files to "
        "0..255, which changes the ids. Save it with 8 bits, or list the decoded values in COLOR_MAP, such as "
        f"[[0, 0, 0], [255, 255, 255]] for 1 bit. Received: {received}"
    )


def _unsupported(data: bytes, path: FilePath) -> UnreadableFileError:
    return UnreadableFileError(
        f"{path} must be a PNG, TIFF or BMP file, or a NumPy array of ids (.npy): label files need a lossless format; "
        f"create it again in one of these. Received: a file starting with {data[:8]!r}"
    )
