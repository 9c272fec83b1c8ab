"""Resize of an image or of a window of it, with identical pixels.

Let the sizes along one axis have the ratio new : old = q : p in lowest terms. Then q output pixels cover exactly p
input pixels, and each such block of the output only depends on the corresponding input block and its two neighbors. A
window is therefore computed from the blocks it overlaps plus one block on each side, and then trimmed.

Both backends compute the interpolation weights from the pixel position. For small q, errors of the position cannot
change a rounded weight, because none of the q positions in a block is close to a rounding boundary: OpenCV's bit-exact
bilinear interpolation has 8-bit weights (the plain one computes positions with 24 bits and is inexact for wide images),
Pillow's has 22-bit weights.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from PIL import Image

from dl_lib.config.choices import ResizeBackend

__all__ = ["BACKENDS", "Resize"]

_MAX_BLOCK_PX = 128  # for larger blocks, a window and its two extra blocks would be about as large as the image


@dataclass(frozen=True)
class Resize:
    """Resize: bilinear for images; nearest for labels, exactly the input pixel that contains the output pixel's center.

    Args:
        height: Output height.
        width: Output width.
        backend: Backend for images. `cv2` always interpolates between the four nearest pixels; `pil` widens the filter
            for downscaling (antialiasing), so that every input pixel contributes.
    """

    height: int
    width: int
    backend: ResizeBackend = "cv2"

    def output_size(self, size: tuple[int, int]) -> tuple[int, int]:
        return self.height, self.width

    def apply_image(self, image: np.ndarray) -> np.ndarray:
        return BACKENDS[self.backend](image, self.height, self.width)

    def apply_label(self, label: np.ndarray) -> np.ndarray:
        return self.label_window(label, slice(0, self.height), slice(0, self.width))

    def image_window(self, image: np.ndarray, rows: slice, columns: slice) -> np.ndarray:
        """Return `apply_image(image)[rows, columns]`, computing only the window if the size ratio is a simple fraction.

        The slices must have a start and a stop.
        """
        vertical = _blocks(image.shape[0], self.height, rows)
        horizontal = _blocks(image.shape[1], self.width, columns)
        resized = BACKENDS[self.backend](image[vertical.old, horizontal.old], vertical.new_px, horizontal.new_px)
        return resized[vertical.window, horizontal.window]

    def label_window(self, label: np.ndarray, rows: slice, columns: slice) -> np.ndarray:
        """Return `apply_label(label)[rows, columns]`; for the arguments, see `image_window`."""
        # cv2.INTER_NEAREST_EXACT rounds the step to 1/65536 pixel and can be off by one pixel.
        old_rows = _nearest(label.shape[0], self.height, rows)
        old_columns = _nearest(label.shape[1], self.width, columns)
        if self.height < label.shape[0]:
            return label.take(old_rows, axis=0).take(old_columns, axis=1)
        # For upscaling, repeat whole rows last, which is cheap.
        between = label[old_rows[0] : old_rows[-1] + 1]
        return between.take(old_columns, axis=1).take(old_rows - old_rows[0], axis=0)


@dataclass(frozen=True)
class _Blocks:
    """Blocks to resize along one axis."""

    old: slice  # input pixels of the blocks
    new_px: int  # number of output pixels of the blocks
    window: slice  # requested pixels within the resized blocks


def _blocks(old_px: int, new_px: int, window: slice) -> _Blocks:
    divisor = math.gcd(old_px, new_px)
    old_block, new_block = old_px // divisor, new_px // divisor
    if new_block > _MAX_BLOCK_PX:
        return _Blocks(slice(0, old_px), new_px, window)
    first = max(window.start // new_block - 1, 0)
    stop = min(-(-window.stop // new_block) + 1, divisor)
    return _Blocks(
        old=slice(first * old_block, stop * old_block),
        new_px=(stop - first) * new_block,
        window=slice(window.start - first * new_block, window.stop - first * new_block),
    )


def _nearest(old_px: int, new_px: int, window: slice) -> np.ndarray:
    """Return the input pixel that contains the center of each output pixel; on an edge, the pixel to the right."""
    return (2 * np.arange(window.start, window.stop) + 1) * old_px // (2 * new_px)


def _resize_with_opencv(image: np.ndarray, height: int, width: int) -> np.ndarray:
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR_EXACT)


def _resize_with_pillow(image: np.ndarray, height: int, width: int) -> np.ndarray:
    # Fix the order of the two passes, columns before rows. Pillow >= 13 chooses it from the four sizes
    # (https://github.com/python-pillow/Pillow/pull/9549), so a window could be rounded differently from the image.
    narrowed = Image.fromarray(image).resize((width, image.shape[0]), Image.Resampling.BILINEAR)
    return np.asarray(narrowed.resize((width, height), Image.Resampling.BILINEAR))


BACKENDS: dict[ResizeBackend, Callable[[np.ndarray, int, int], np.ndarray]] = {
    "cv2": _resize_with_opencv,
    "pil": _resize_with_pillow,
}
