"""Images and labels from files.

PNGs of 8 bits are decoded by opencv, the faster of the two decoders by about a seventh; everything else by Pillow,
which notices damage in a JPEG that opencv passes over. Where both can read a file they give the same pixels to the
digit, so that the choice between them (`INPUT.BACKEND`) matters for resizing only.

Orientation tags (EXIF) are ignored: label files have none, and would not fit the turned image. So are colour profiles.
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

__all__ = ["read_image", "read_label"]

FilePath = str | os.PathLike[str]

# https://www.w3.org/TR/png-3/, 5.2 (signature) and 11.2.1 (header)
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PNG_BITS_AT, _PNG_COLOR_TYPE_AT = 24, 25
_GREY, _RGB, _PALETTE = 0, 2, 3

_COLOR_MODES = ("1", "L", "P", "RGB")  # Pillow's names of what has a plain meaning as RGB
_OPAQUE = 255


@dataclass(frozen=True)
class _PngHeader:
    """How a PNG stores its pixels.

    Args:
        bits: per channel, or of an index into the palette.
        color_type: its number in the standard; those with an alpha channel are 4 and 6.
        transparency: whether a colour or colours of the palette stand for transparent pixels.
    """

    bits: int
    color_type: int
    transparency: bool


def read_image(path: FilePath) -> np.ndarray:
    """An image as (H, W, 3) uint8 RGB; grey becomes three equal channels, palettes become colours.

    An alpha channel is dropped where all of it is opaque.

    Args:
        path: of a file in any format that Pillow reads, with at most 8 bits per channel.

    Raises:
        MissingDataError: if there is no such file.
        UnreadableFileError: if it is no image, is damaged or cut off, or its pixels are no opaque colours of 8 bits.
    """
    data = _read_bytes(path)
    header = _png_header(data)
    if header is not None and header.bits == 8 and header.color_type in (_GREY, _RGB) and not header.transparency:
        return _decode_with_opencv(data, path, flags=cv2.IMREAD_COLOR_RGB)
    picture = _decode_with_pillow(data, path)
    if picture.has_transparency_data:
        picture = _without_alpha(picture.convert("RGBA"), path)
    if picture.mode not in _COLOR_MODES:
        raise UnreadableFileError(
            f"{path} is neither RGB nor grey with 8 bits; convert it. Received: Pillow's mode {picture.mode!r}"
        )
    return np.array(picture if picture.mode == "RGB" else picture.convert("RGB"))


def read_label(path: FilePath) -> np.ndarray:
    """The ids in a label file as (H, W), uint8 or uint16: grey values as they are, or indices into a palette.

    Args:
        path: of a PNG.

    Raises:
        MissingDataError: if there is no such file.
        UnreadableFileError: if it is no PNG, is damaged or cut off, or does not hold one id per pixel.
    """
    data = _read_bytes(path)
    header = _png_header(data)
    if header is None:
        raise UnreadableFileError(
            f"{path} is no PNG, which labels have to be: it keeps every id as it is. "
            f"Received: a file that begins with {data[:8]!r}"
        )
    if header.color_type == _PALETTE:
        return np.array(_decode_with_pillow(data, path))
    if header.color_type != _GREY:
        raise UnreadableFileError(
            f"{path} holds colours; expected one id per pixel, in a grey PNG of 8 or 16 bits or one with a palette. "
            f"Received: PNG colour type {header.color_type}"
        )
    if header.bits < 8:
        raise UnreadableFileError(
            f"{path} is a grey PNG of less than 8 bits, whose values libraries stretch to 0..255: its ids would be "
            f"others than those meant. Save it with 8 bits. Received: bits={header.bits}"
        )
    return _decode_with_opencv(data, path, flags=cv2.IMREAD_GRAYSCALE | cv2.IMREAD_ANYDEPTH)


def _read_bytes(path: FilePath) -> bytes:
    try:
        data = Path(path).read_bytes()
    except FileNotFoundError:
        raise MissingDataError(f"there is no such file. Received: path={os.fspath(path)!r}") from None
    except OSError as error:
        raise UnreadableFileError(f"{path} cannot be read. Received: {error.strerror or error}") from error
    if not data:
        raise UnreadableFileError(f"{path} is empty; fetch or make it again. Received: 0 bytes")
    return data


def _png_header(data: bytes) -> _PngHeader | None:
    """None for what is no PNG, or not even the beginning of one."""
    if not data.startswith(_PNG_SIGNATURE) or len(data) <= _PNG_COLOR_TYPE_AT:
        return None
    transparency = b"tRNS" in data[: data.find(b"IDAT")]
    return _PngHeader(data[_PNG_BITS_AT], data[_PNG_COLOR_TYPE_AT], transparency)


def _decode_with_opencv(data: bytes, path: FilePath, *, flags: int) -> np.ndarray:
    """The pixels of a PNG, as opencv's flags want them."""
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error as error:
        raise _damaged(path, error) from error
    if pixels is None:
        raise _damaged(path, f"a PNG of {len(data)} bytes")
    return pixels


def _decode_with_pillow(data: bytes, path: FilePath) -> Image.Image:
    try:
        picture = Image.open(io.BytesIO(data))
        storage = str([tile[3] for tile in picture.tile])  # what decoding forgets: that 16 bits became 8
        picture.load()
    except UnidentifiedImageError as error:
        raise UnreadableFileError(
            f"{path} is no image of a format that Pillow reads, or hardly the beginning of one. "
            f"Received: {len(data)} bytes that begin with {data[:8]!r}"
        ) from error
    except Exception as error:  # Pillow has a reader for each format, and damage shows in errors of many kinds
        raise _damaged(path, error) from error
    if ";16" in storage:
        raise UnreadableFileError(
            f"{path} has 16 bits per channel, and what becomes of them in 8 depends on their meaning; convert it. "
            f"Received: Pillow's storage {storage}"
        )
    return picture


def _without_alpha(picture: Image.Image, path: FilePath) -> Image.Image:
    lowest = int(np.array(picture.getchannel("A")).min())
    if lowest < _OPAQUE:
        raise UnreadableFileError(
            f"{path} has transparent pixels, whose colours mean nothing; put it on a background. "
            f"Received: lowest alpha={lowest}"
        )
    return picture.convert("RGB")


def _damaged(path: FilePath, received: object) -> UnreadableFileError:
    return UnreadableFileError(f"{path} is damaged or cut off; fetch or make it again. Received: {received}")
