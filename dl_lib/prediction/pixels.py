"""Pixels of images in memory and in files as RGB."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from dl_lib.data.catalog import Color
from dl_lib.data.decoding import damaged, opaque_rgb
from dl_lib.data.errors import DataError, InvalidSampleError
from dl_lib.data.orientation import load_upright
from dl_lib.data.reading import read_image

__all__ = ["WHITE", "Pixels", "as_rgb", "checked_color", "read_rgb"]

Pixels = npt.NDArray[np.uint8]

WHITE: Color = (255, 255, 255)
_CHANNELS = (1, 3, 4)  # gray, RGB, RGBA


def checked_color(background: Any) -> Color:
    """Return the color behind transparent pixels.

    Raises:
        ValueError: If it is not a color.
    """
    color = tuple(background) if isinstance(background, Iterable) else ()
    if len(color) != 3 or not all(isinstance(value, int | np.integer) and 0 <= value <= 255 for value in color):
        raise ValueError(
            "background must be a color (red, green, blue) of integers in 0..255, such as (255, 255, 255). "
            f"Received: background={background!r}"
        )
    red, green, blue = map(int, color)
    return red, green, blue


def read_rgb(path: str | os.PathLike[str], *, background: Color) -> Pixels:
    """Read an image file upright as (H, W, 3) RGB, in front of a background; errors as in `read_image`."""
    return read_image(path, upright=True, background=background)


def as_rgb(image: Any, *, name: str, background: Color) -> Pixels:
    """Return an image in memory as (H, W, 3) RGB.

    Args:
        image: PIL image, or uint8 values of gray, RGB or RGBA: an array (H, W, channels), a tensor (channels, H, W),
            or gray values (H, W).
        name: Name for messages.
        background: Color behind transparent pixels.

    Raises:
        InvalidSampleError: If the shape or dtype is not one of these.
        UnreadableFileError: If a PIL image has another pixel format, or its file is damaged.
    """
    if isinstance(image, Image.Image):
        return _pil_rgb(image, name=name, background=background)
    is_tensor = isinstance(image, Tensor)
    if image.dtype != (torch.uint8 if is_tensor else np.uint8):
        raise InvalidSampleError(
            f"{name}: values must be uint8, 0..255; convert values in 0..1 with (255 * image).round() and a cast to "
            f"uint8. Received: dtype={image.dtype}"
        )
    pixels = image.cpu().numpy() if is_tensor else image
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    elif is_tensor and pixels.ndim == 3:
        pixels = pixels.transpose(1, 2, 0)
    if pixels.ndim != 3 or pixels.shape[2] not in _CHANNELS or not pixels.size:
        raise InvalidSampleError(
            f"{name}: one image must have shape {'(channels, H, W)' if is_tensor else '(H, W, channels)'} with 1, 3 or "
            f"4 channels, or (H, W); pass several images as a list. Received: shape={tuple(image.shape)}"
        )
    gray_or_color = pixels[..., 0] if pixels.shape[2] == 1 else pixels
    return _pil_rgb(Image.fromarray(np.ascontiguousarray(gray_or_color)), name=name, background=background)


def _pil_rgb(image: Image.Image, *, name: str, background: Color) -> Pixels:
    try:
        pixels = np.array(opaque_rgb(load_upright(image), name, background=background))
    except DataError:
        raise
    except Exception as error:  # an image of a damaged file is decoded here; Pillow's error depends on the format
        raise damaged(name, error) from error
    if not pixels.size:
        raise InvalidSampleError(f"{name} must have at least one pixel. Received: size={image.size}")
    return pixels
