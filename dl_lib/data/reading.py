"""Decoding of image files.

PNGs with 8 bits are decoded by OpenCV, which is about a seventh faster; all other files by Pillow, which detects
damaged JPEGs that OpenCV accepts. For files that both support, the decoded pixels are identical, so `INPUT.BACKEND`
affects resizing only.

EXIF orientation is ignored, because label files have none and would not match the rotated image. Color profiles are
ignored as well.
"""

from __future__ import annotations

import io
import os
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError

from dl_lib.data.errors import MissingDataError, UnreadableFileError

__all__ = [
    "FilePath",
    "PngHeader",
    "damaged",
    "decode_image",
    "decode_with_opencv",
    "decode_with_pillow",
    "png_header",
    "read_bytes",
    "read_image",
]

FilePath = str | os.PathLike[str]

# https://www.w3.org/TR/png-3/, 5.2 (signature) and 11.2.1 (header)
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PNG_BIT_DEPTH_OFFSET, _PNG_COLOR_TYPE_OFFSET = 24, 25
_GRAY, _RGB = 0, 2

_COLOR_MODES = ("1", "L", "P", "RGB")  # Pillow modes that convert to RGB without loss of information
_OPAQUE = 255


@dataclass(frozen=True)
class PngHeader:
    """Pixel format of a PNG."""

    bits: int  # per channel, or per palette index
    color_type: int  # 4 and 6 have an alpha channel
    transparency: bool  # whether a color or palette entries are marked as transparent (tRNS chunk)


def read_image(path: FilePath) -> np.ndarray:
    """Read an image as (H, W, 3) uint8 RGB. Gray values are repeated, palettes resolved, opaque alpha channels dropped.

    Args:
        path: File in any format Pillow supports, with at most 8 bits per channel.

    Raises:
        MissingDataError: If the file does not exist.
        UnreadableFileError: If the file is not an image, is damaged or truncated, or its pixels are not opaque colors
            with 8 bits.
    """
    return decode_image(read_bytes(path), path)


def decode_image(data: bytes, path: FilePath) -> np.ndarray:
    """Decode the content of a file as `read_image` does."""
    header = png_header(data)
    if header is not None and header.bits == 8 and header.color_type in (_GRAY, _RGB) and not header.transparency:
        return decode_with_opencv(data, path, flags=cv2.IMREAD_COLOR_RGB)
    image, storage = decode_with_pillow(data, path)
    if ";16" in storage:
        raise UnreadableFileError(
            f"{path} must not have 16 bits per channel, because the conversion depends on the range of values; convert "
            f"it to 8 bits. Received: Pillow storage {storage!r}"
        )
    if image.has_transparency_data:
        image = _without_alpha(image.convert("RGBA"), path)
    if image.mode not in _COLOR_MODES:
        raise UnreadableFileError(
            f"{path} must be an RGB or grayscale image with 8 bits per channel; convert it. "
            f"Received: Pillow mode {image.mode!r}"
        )
    return np.array(image if image.mode == "RGB" else image.convert("RGB"))


def read_bytes(path: FilePath) -> bytes:
    """Return the content of a file, at least one byte.

    Raises:
        MissingDataError: If the file does not exist.
        UnreadableFileError: If it cannot be opened or is empty.
    """
    try:
        data = Path(path).read_bytes()
    except FileNotFoundError:
        raise MissingDataError(
            f"file does not exist; extract or copy the dataset again. Received: path={os.fspath(path)!r}"
        ) from None
    except OSError as error:
        raise UnreadableFileError(
            f"{path} cannot be opened; check its permissions. Received: {error.strerror or error}"
        ) from error
    if not data:
        raise UnreadableFileError(f"{path} is empty; download or create it again. Received: 0 bytes")
    return data


def png_header(data: bytes) -> PngHeader | None:
    """Return the pixel format of a PNG, or None for other data and for a truncated header."""
    if not data.startswith(_PNG_SIGNATURE) or len(data) <= _PNG_COLOR_TYPE_OFFSET:
        return None
    transparency = b"tRNS" in data[: data.find(b"IDAT")]
    return PngHeader(data[_PNG_BIT_DEPTH_OFFSET], data[_PNG_COLOR_TYPE_OFFSET], transparency)


def decode_with_opencv(data: bytes, path: FilePath, *, flags: int) -> np.ndarray:
    """Decode an image file with the given flags of `cv2.imdecode`, ignoring the orientation."""
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error as error:
        raise damaged(path, error) from error
    if pixels is None:
        raise damaged(path, f"PNG of {len(data)} bytes")
    return pixels


def decode_with_pillow(data: bytes, path: FilePath) -> tuple[Image.Image, str]:
    """Return the decoded image and the name of its pixel format in the file.

    Decoding reduces 16 bits per channel to 8, scales fewer than 8 bits and inverts some files: the name shows it.
    """
    try:
        image = Image.open(io.BytesIO(data))
        arguments = image.tile[0][3] if image.tile else None
        image.load()
    except UnidentifiedImageError as error:
        raise UnreadableFileError(
            f"{path} is not an image in a format that Pillow supports, or is truncated. "
            f"Received: {len(data)} bytes starting with {data[:8]!r}"
        ) from error
    except Exception as error:  # the error type of damaged data depends on Pillow's reader of the format
        raise damaged(path, error) from error
    return image, arguments if isinstance(arguments, str) else str(arguments[0]) if arguments else image.mode


def _without_alpha(image: Image.Image, path: FilePath) -> Image.Image:
    lowest = int(np.array(image.getchannel("A")).min())
    if lowest < _OPAQUE:
        raise UnreadableFileError(
            f"{path} has transparent pixels, whose color is undefined; composite the image onto a background. "
            f"Received: lowest alpha={lowest}"
        )
    return image.convert("RGB")


def damaged(path: FilePath, received: object) -> UnreadableFileError:
    """Return the error for a damaged file."""
    return UnreadableFileError(f"{path} is damaged or truncated; download or create it again. Received: {received}")
