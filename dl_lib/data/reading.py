"""Reading of image and label files."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from PIL import Image

from dl_lib.data.catalog import Color
from dl_lib.data.decoding import FilePath, damaged, decode_image, png_header
from dl_lib.data.errors import DataError, MissingDataError, UnreadableFileError
from dl_lib.data.label_decoding import decode_color_label, decode_label
from dl_lib.data.orientation import stored_size
from dl_lib.data.refusals import describe_stand_in
from dl_lib.utils.files import open_regular

__all__ = ["read_bytes", "read_color_label", "read_image", "read_image_size", "read_label", "read_label_palette"]

_PNG_HEADER_BYTES = 33


def read_image(path: FilePath, *, upright: bool = False, background: Color | None = None) -> np.ndarray:
    """Read an image as (H, W, 3) uint8 RGB. Gray values are repeated, palettes resolved, opaque alpha channels dropped.

    Args:
        path: Image in a format of Pillow, with one frame: RGB, gray or palette, at most 8 bits per channel.
        upright: Apply the EXIF orientation.
        background: Color behind transparent pixels; None refuses these.

    Raises:
        MissingDataError: If the file does not exist.
        UnreadableFileError: If the file is not such an image, is damaged or truncated, exceeds a limit of its decoder,
            or has transparent pixels without a background.
    """
    return decode_image(read_bytes(path), path, upright=upright, background=background)


def read_image_size(path: FilePath) -> tuple[int, int]:
    """Return height and width of an image from the header of its file; raises the errors of `read_image`."""
    with _errors_naming(path), open_regular(path) as file:
        header = png_header(file.read(_PNG_HEADER_BYTES))
        if header is not None and header.height and header.width:  # Pillow would refuse large PNGs that OpenCV decodes
            return header.height, header.width
        file.seek(0)
        try:
            with Image.open(file) as image:
                return stored_size(image)
        except Exception as error:  # the error type of damaged data depends on Pillow's reader of the format
            raise damaged(path, error) from error


def read_label(path: FilePath) -> np.ndarray:
    """Read the ids of a label file, (H, W) of the smallest integer type: gray values, palette indices or array values.

    Args:
        path: PNG, TIFF, BMP or .npy file; grayscale with at least 8 bits, a palette, or an array of integers.

    Raises:
        MissingDataError: If the file does not exist.
        ColorLabelError: If the file contains colors.
        UnreadableFileError: If the file has another format, is damaged or truncated, exceeds a limit of its decoder,
            or does not contain one id per pixel.
    """
    return decode_label(read_bytes(path), path)


def read_color_label(path: FilePath) -> np.ndarray:
    """Read the colors of a label file, (H, W, 3) uint8 RGB.

    Args:
        path: PNG, TIFF or BMP file with opaque colors of 8 bits per channel, a palette, or gray values.

    Raises:
        MissingDataError: If the file does not exist.
        UnreadableFileError: If the file has another format, is damaged or truncated, or exceeds a limit of its decoder.
    """
    return decode_color_label(read_bytes(path), path)


def read_label_palette(path: FilePath) -> dict[int, tuple[int, int, int]]:
    """Return the color of each palette index in a label file; empty without a palette, or if it cannot be read."""
    try:
        with open_regular(path) as file, Image.open(file) as image:
            palette, used = image.getpalette("RGB") or [], image.getcolors() if image.mode == "P" else None
            return {index: tuple(palette[3 * index : 3 * index + 3]) for _, index in used or ()}
    except Exception:  # the error type of damaged data depends on Pillow's reader of the format
        return {}


def read_bytes(path: FilePath) -> bytes:
    """Return the content of a data file.

    Raises:
        MissingDataError: If the file does not exist.
        UnreadableFileError: If it cannot be read, is empty, or is another file that stands in for it.
    """
    with _errors_naming(path), open_regular(path) as file:
        data = file.read()
    if not data:
        raise UnreadableFileError(f"{path} is empty; download or create it again. Received: 0 bytes")
    stand_in = describe_stand_in(data)
    if stand_in:
        raise UnreadableFileError(f"{path} {stand_in}. Received: {len(data)} bytes starting with {data[:24]!r}")
    return data


@contextmanager
def _errors_naming(path: FilePath) -> Iterator[None]:
    """Turn the errors of opening and reading a file into data errors."""
    try:
        yield
    except DataError:
        raise
    except FileNotFoundError:
        raise MissingDataError(
            f"file does not exist; extract or copy it again, or repair the link to it. Received: path={str(path)!r}"
        ) from None
    except (OSError, ValueError) as error:  # the latter from a name with a null character
        raise UnreadableFileError(
            f"{path} cannot be opened; check that it is a file with read permission. "
            f"Received: {getattr(error, 'strerror', None) or error}"
        ) from error
    except MemoryError as error:
        raise damaged(path, error) from error
