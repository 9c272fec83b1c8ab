"""Pixels of images in memory and in files as RGB."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from torch import Tensor

from dl_lib.data.decoding import Color, opaque_rgb
from dl_lib.data.errors import InvalidSampleError
from dl_lib.data.orientation import load_upright
from dl_lib.data.reading import read_image

__all__ = ["WHITE", "Pixels", "as_rgb", "read_rgb"]

Pixels = npt.NDArray[np.uint8]

WHITE: Color = (255, 255, 255)
_CHANNELS = (1, 3, 4)  # gray, RGB, RGBA


def read_rgb(path: str | os.PathLike[str], *, background: Color) -> Pixels:
    """Read an image file upright as (H, W, 3) RGB, in front of a background; errors as in `read_image`."""
    return read_image(path, upright=True, background=background)


def as_rgb(image: Any, *, name: str, background: Color) -> Pixels:
    """Return an image in memory as (H, W, 3) RGB.

    Args:
        image: PIL image, or uint8 values of gray, RGB or RGBA: an array (H, W) or (H, W, channels), or a tensor
            (channels, H, W).
        name: Name for messages.
        background: Color behind transparent pixels.

    Raises:
        InvalidSampleError: If shape or dtype is another one.
        UnreadableFileError: If a PIL image has another pixel format.
    """
    if isinstance(image, Image.Image):
        return np.array(opaque_rgb(load_upright(image), name, background=background))
    is_tensor = isinstance(image, Tensor)
    pixels = image.detach().cpu().numpy() if is_tensor else image
    if pixels.dtype != np.uint8:
        raise InvalidSampleError(
            f"{name}: values must be uint8, 0..255; convert values in 0..1 with (255 * image).round() and a cast to "
            f"uint8. Received: dtype={image.dtype}"
        )
    if is_tensor and pixels.ndim == 3:
        pixels = pixels.transpose(1, 2, 0)
    if pixels.ndim == 2 and not is_tensor:
        pixels = pixels[..., None]
    if pixels.ndim != 3 or pixels.shape[2] not in _CHANNELS or not pixels.size:
        expected = "(1, 3 or 4, H, W)" if is_tensor else "(H, W) or (H, W, 1, 3 or 4)"
        expected = expected.replace("1, 3 or 4", "channels") + " with 1, 3 or 4 channels"
        raise InvalidSampleError(
            f"{name}: one image must have shape {expected}; pass several images as a list. "
            f"Received: shape={tuple(image.shape)}"
        )
    gray_or_color = pixels[..., 0] if pixels.shape[2] == 1 else pixels
    return np.array(opaque_rgb(Image.fromarray(np.ascontiguousarray(gray_or_color)), name, background=background))
