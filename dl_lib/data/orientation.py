"""EXIF orientation of image files.

Datasets ignore it: pixels are used as they are stored, like those of labels. New images to predict are turned upright.
"""

from __future__ import annotations

import os
from typing import Any

from PIL import Image, ImageOps
from PIL.ExifTags import Base as Tag

from dl_lib.utils.files import open_regular

__all__ = ["UPRIGHT", "describe_swapped_sides", "load_as_stored", "load_upright", "read_orientation", "stored_size"]

UPRIGHT = 1
_INVERSE = {  # of the operation that makes an image upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def read_orientation(path: str | os.PathLike[str]) -> int:
    """Return the orientation in the header of an image file, 1 to 8; 1 if it has none or cannot be read."""
    try:
        with open_regular(path) as file, Image.open(file) as image:
            return _orientation_of(image)
    except Exception:  # the error type of damaged data depends on Pillow's reader of the format
        return UPRIGHT


def load_as_stored(image: Image.Image) -> Image.Image:
    """Load the pixels of an opened image, and return it as it is stored: Pillow turns TIFF images upright."""
    orientation = _orientation_of(image) if image.format == "TIFF" else UPRIGHT
    image.load()
    is_turned = orientation != UPRIGHT and _orientation_of(image) == UPRIGHT  # Pillow removes the tag
    return image.transpose(_INVERSE[orientation]) if is_turned else image


def load_upright(image: Image.Image) -> Image.Image:
    """Load the pixels of an opened image, and return it upright."""
    image.load()
    return ImageOps.exif_transpose(image)


def stored_size(image: Image.Image) -> tuple[int, int]:
    """Return height and width of an opened image as it is stored."""
    if image.format == "TIFF":
        tags: Any = image
        return int(tags.tag_v2[Tag.ImageLength]), int(tags.tag_v2[Tag.ImageWidth])
    return image.height, image.width


def describe_swapped_sides(size: tuple[int, ...], expected: tuple[int, ...]) -> str:
    """Return a clause on cause and fix if height and width are swapped, starting with a colon, or an empty text."""
    if size == expected or size != expected[::-1]:
        return ""
    return (
        ": height and width are swapped; if the image has an EXIF orientation, which is ignored, rotate its pixels and "
        "remove the orientation, else transpose the label or its size in the file"
    )


def _orientation_of(image: Image.Image) -> int:
    tags: Any = getattr(image, "tag_v2", None) or image.getexif()
    value = tags.get(Tag.Orientation, UPRIGHT)
    return value if value in _INVERSE else UPRIGHT
