"""Decoding of image files in memory.

PNGs with gray values or RGB of 8 bits are decoded by kornia_rs, in half of OpenCV's time (docs/performance.md); OpenCV
decodes those of more than 2**26 pixels and labels of 16 bits, and Pillow all other files, because it detects damaged
JPEGs that OpenCV accepts. The decoded pixels are identical, so `INPUT.BACKEND` affects resizing only.

EXIF orientation is ignored in datasets, because label files have none and would not match the rotated image. Color
profiles are ignored as well.
"""

from __future__ import annotations

import io
import os
import struct
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from kornia_rs.io import decode_image_png_u8
from PIL import Image, UnidentifiedImageError
from PIL.ExifTags import Base as Tag
from PIL.ImageFile import ImageFile

from dl_lib.data.catalog import Color
from dl_lib.data.errors import UnreadableFileError
from dl_lib.data.orientation import load_as_stored, load_upright
from dl_lib.data.refusals import describe_limit

__all__ = [
    "PNG_GRAY",
    "PNG_PALETTE",
    "PNG_SIGNATURE",
    "FilePath",
    "PngHeader",
    "damaged",
    "decode_image",
    "decode_png",
    "decode_with_pillow",
    "opaque_rgb",
    "open_with_pillow",
    "png_header",
]

FilePath = str | os.PathLike[str]

# https://www.w3.org/TR/png-3/, 5.2 (signature) and 11.2.1 (header)
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PNG_BIT_DEPTH_OFFSET, _PNG_COLOR_TYPE_OFFSET = 24, 25
_PNG_SIDES = struct.Struct(">16xII")  # width and height
_MAX_PNG_SIDE = 1_000_000  # pixels; of libpng, in OpenCV
_MAX_KORNIA_PIXELS = 2**26  # for larger sizes in the header of a damaged file, kornia_rs may run out of memory
PNG_GRAY, _PNG_RGB, PNG_PALETTE = 0, 2, 3  # color types

_RGB_MODES = ("1", "L", "P", "RGB")  # Pillow modes that convert to RGB without loss of information
_OPAQUE = 255
_STACK_FORMATS = ("AVIF", "GIF", "PNG", "TIFF", "WEBP")  # animations or several pages


@dataclass(frozen=True)
class PngHeader:
    """Size and pixel format of a PNG."""

    height: int  # pixels, like the width
    width: int
    bits: int  # per channel, or per palette index
    color_type: int  # 4 and 6 have an alpha channel
    transparency: bool  # whether a color or palette entries are marked as transparent (tRNS chunk)


def decode_image(data: bytes, path: FilePath, *, upright: bool = False, background: Color | None = None) -> np.ndarray:
    """Decode the content of an image file, see `dl_lib.data.reading.read_image`; the path is for messages."""
    header = png_header(data)
    is_plain = header and header.bits == 8 and header.color_type in (PNG_GRAY, _PNG_RGB) and not header.transparency
    if header and is_plain and not (upright and b"eXIf" in data):
        pixels = decode_png(data, path, header=header)
        return pixels if pixels.ndim == 3 else cv2.cvtColor(pixels, cv2.COLOR_GRAY2RGB)
    image, storage = decode_with_pillow(data, path, upright=upright)
    if ";16" in storage:
        raise UnreadableFileError(
            f"{path} must not have 16 bits per channel, because the conversion depends on the range of values; convert "
            f"it to 8 bits. Received: Pillow storage {storage!r}"
        )
    try:
        return np.array(opaque_rgb(image, path, background=background))
    except UnreadableFileError:
        raise
    except Exception as error:  # a missing palette is an AssertionError
        raise damaged(path, error) from error


def png_header(data: bytes) -> PngHeader | None:
    """Return size and pixel format of a PNG, or None for other data and for a truncated header."""
    if not data.startswith(PNG_SIGNATURE) or len(data) <= _PNG_COLOR_TYPE_OFFSET:
        return None
    transparency = b"tRNS" in data[: data.find(b"IDAT")]
    width, height = _PNG_SIDES.unpack_from(data)
    return PngHeader(height, width, data[_PNG_BIT_DEPTH_OFFSET], data[_PNG_COLOR_TYPE_OFFSET], transparency)


def decode_png(data: bytes, path: FilePath, *, header: PngHeader) -> np.ndarray:
    """Decode a PNG with gray values of 8 or 16 bits, (H, W), or RGB of 8 bits, (H, W, 3); ignores the orientation.

    Raises:
        UnreadableFileError: If the file is damaged, an animation, or larger than OpenCV decodes.
    """
    if b"acTL" in data[: data.find(b"IDAT")]:
        raise _has_frames(path, "an animated PNG")
    is_gray = header.color_type == PNG_GRAY
    if header.bits == 8 and header.height * header.width <= _MAX_KORNIA_PIXELS:
        try:
            pixels = decode_image_png_u8(data, (header.height, header.width), "mono" if is_gray else "rgb")
        except Exception as error:  # kornia_rs has no error type of its own
            raise damaged(path, error) from error
        return pixels[..., 0] if is_gray else pixels
    if max(header.height, header.width) > _MAX_PNG_SIDE:
        raise UnreadableFileError(
            f"{path} is larger than libpng decodes, {_MAX_PNG_SIDE} pixels per side; split it into tiles. "
            f"Received: width and height={(header.width, header.height)}"
        )
    return _decode_with_opencv(data, path, is_gray=is_gray)


def _decode_with_opencv(data: bytes, path: FilePath, *, is_gray: bool) -> np.ndarray:
    flags = cv2.IMREAD_GRAYSCALE | cv2.IMREAD_ANYDEPTH if is_gray else cv2.IMREAD_COLOR_RGB
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error as error:
        raise damaged(path, error) from error
    if pixels is None:
        raise damaged(path, f"PNG of {len(data)} bytes")
    return pixels


def open_with_pillow(data: bytes, path: FilePath) -> ImageFile:
    """Return the image of a file, of which only the header is read until its pixels are needed.

    Raises:
        UnreadableFileError: If the header is damaged, the format is PostScript or one that Pillow does not support.
    """
    try:
        opened = Image.open(io.BytesIO(data))
    except UnidentifiedImageError as error:
        raise UnreadableFileError(
            f"{path} is not an image in a format that Pillow supports, or is truncated. "
            f"Received: {len(data)} bytes starting with {data[:8]!r}"
        ) from error
    except Exception as error:  # the error type of damaged data depends on Pillow's reader of the format
        raise damaged(path, error) from error
    if opened.format == "EPS":
        raise UnreadableFileError(
            f"{path} must not be PostScript, a program that Ghostscript would execute; convert it to PNG or JPEG. "
            f"Received: {len(data)} bytes starting with {data[:8]!r}"
        )
    return opened


def decode_with_pillow(data: bytes, path: FilePath, *, upright: bool = False) -> tuple[Image.Image, str]:
    """Return the decoded image and Pillow's name of the pixel format in the file, such as `I;16B`.

    Pillow may convert pixels: 16 bits per channel to 8, fewer than 8 bits scaled, some files inverted. The name tells.

    Args:
        data: Content of the file.
        path: Path for messages.
        upright: Apply the EXIF orientation.

    Raises:
        UnreadableFileError: If the file is damaged, has several frames or a format that Pillow does not support.
    """
    opened = open_with_pillow(data, path)
    try:
        arguments = opened.tile[0][3] if opened.tile else None
        _check_frames(opened, path)
        image = load_upright(opened) if upright else load_as_stored(opened)
    except UnreadableFileError:
        raise
    except Exception as error:  # the error type of damaged data depends on Pillow's reader of the format
        raise damaged(path, error) from error
    return image, arguments if isinstance(arguments, str) else str(arguments[0]) if arguments else image.mode


def _check_frames(image: Image.Image, path: FilePath) -> None:
    """Raise an error unless the file contains a single image, apart from smaller copies of it."""
    num_frames = getattr(image, "n_frames", 1) if image.format in _STACK_FORMATS else 1
    if num_frames > 1 and image.format == "TIFF":
        num_frames = sum(_is_main_page(image, page) for page in range(num_frames))
        image.seek(0)
    if num_frames > 1:
        raise _has_frames(path, f"{image.format} with {num_frames} frames")


def _is_main_page(image: Any, page: int) -> bool:
    image.seek(page)
    return not image.tag_v2.get(Tag.NewSubfileType)  # not 0 for a smaller copy or mask of another page


def _has_frames(path: FilePath, received: str) -> UnreadableFileError:
    return UnreadableFileError(
        f"{path} must contain one image, not an animation or several pages; save each as a file. Received: {received}"
    )


def opaque_rgb(image: Image.Image, path: FilePath, *, background: Color | None = None) -> Image.Image:
    """Return an image in RGB.

    Args:
        image: Decoded image.
        path: Path for messages.
        background: Color behind transparent pixels; None refuses these.

    Raises:
        UnreadableFileError: If the image has another pixel format, or transparent pixels without a background.
    """
    if image.has_transparency_data:
        image = image.convert("RGBA")
        if background is not None:
            return Image.alpha_composite(Image.new("RGBA", image.size, (*background, _OPAQUE)), image).convert("RGB")
        lowest = int(np.array(image.getchannel("A")).min())
        if lowest < _OPAQUE:
            raise UnreadableFileError(
                f"{path} has transparent pixels, whose color is undefined; composite the image onto a background. "
                f"Received: lowest alpha={lowest}"
            )
    elif image.mode not in _RGB_MODES:
        raise UnreadableFileError(
            f"{path} must be an RGB or grayscale image with 8 bits per channel; convert it. "
            f"Received: Pillow mode {image.mode!r}"
        )
    return image if image.mode == "RGB" else image.convert("RGB")


def damaged(path: FilePath, received: object) -> UnreadableFileError:
    """Return the error for a file that a decoder refuses because of damage, or of a limit that its error mentions."""
    reason = describe_limit(received) or "is damaged or truncated; download or create it again"
    return UnreadableFileError(f"{path} {reason}. Received: {str(received).strip() or type(received).__name__}")
