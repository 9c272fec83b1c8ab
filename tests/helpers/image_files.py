"""Image files in memory, including PNGs that no library writes."""

import io
import struct
import zlib

import cv2
import numpy as np
from PIL import ExifTags, Image

from dl_lib.data.decoding import PNG_SIGNATURE

SIZE = (37, 53)
_RNG = np.random.default_rng(0)
COLOR = cv2.resize(_RNG.integers(0, 256, (6, 8, 3)).astype(np.uint8), SIZE[::-1], interpolation=cv2.INTER_CUBIC)
GRAY = COLOR[..., 1].copy()
PALETTE = _RNG.permutation(256 * 3).astype(np.uint8).reshape(256, 3)

_ADAM7 = (  # first column and row of each pass, and the steps between its columns and rows
    (0, 0, 8, 8),
    (4, 0, 8, 8),
    (0, 4, 4, 8),
    (2, 0, 4, 4),
    (0, 2, 2, 4),
    (1, 0, 2, 2),
    (0, 1, 1, 2),
)


def encoded(image, kind="PNG", **settings):
    """Encode a Pillow image, or an array of its pixels."""
    file = io.BytesIO()
    (Image.fromarray(image) if isinstance(image, np.ndarray) else image).save(file, kind, **settings)
    return file.getvalue()


def npy(array, **settings):
    """Encode a .npy file."""
    file = io.BytesIO()
    np.lib.format.write_array(file, array, **settings)
    return file.getvalue()


def exif(orientation):
    """Return EXIF data with an orientation, 1 to 8."""
    data = Image.Exif()
    data[ExifTags.Base.Orientation] = orientation
    return data


def with_palette(ids):
    """Return an image of palette indices, (H, W) uint8."""
    image = Image.fromarray(ids)
    image.putpalette(PALETTE.tobytes())
    return image


def write(path, data):
    path.write_bytes(data)
    return path


def png(bits, color_type, rows, *, size=None, interlace=0):
    """Encode a PNG from rows of packed bytes; its header can state another (width, height)."""

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    size = size or (len(rows[0]) * 8 // bits, len(rows))
    pixels = zlib.compress(b"".join(b"\0" + row for row in rows))
    header = struct.pack(">IIBBBBB", *size, bits, color_type, 0, 0, interlace)
    return PNG_SIGNATURE + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def interlaced_png(pixels):
    """Encode gray or RGB pixels of 8 bits, interlaced by Adam7 (https://www.w3.org/TR/png-3/#8Interlace)."""
    rows = [row.tobytes() for left, top, right, down in _ADAM7 for row in pixels[top::down, left::right]]
    return png(8, 0 if pixels.ndim == 2 else 2, rows, size=pixels.shape[1::-1], interlace=1)
