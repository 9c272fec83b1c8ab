"""Resizing, of a whole image or of a window only, with equal pixels either way.

Where `new` pixels are made of `old` ones and new : old = q : p in lowest terms, blocks of q new pixels stand over
blocks of p old ones, and what falls into one block depends on this block and its two neighbours. So a window is made
from the blocks that it touches and one more on each side, whose own edges are then cut off. Both backends compute the
weights of a pixel from its place with errors far below the distance between a place of q possible ones in a block and
the next value at which a weight would be rounded otherwise, as long as q is small: opencv's bit-exact bilinear has
weights of 8 bits (its plain one places pixels with 24 bits, and is off in wide images), Pillow's have 22.
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
_MAX_BLOCK_PX = 128  # beyond it, a window with its two extra blocks would hardly be smaller than the image


@dataclass(frozen=True)
class Resize:
    """Bilinear for images; for labels the pixel that holds the centre of the new one, exactly.

    Args:
        height: of what comes out.
        width: of what comes out.
        backend: of the images: `cv2` interpolates between the four pixels round about, also when shrinking; `pil`
            widens the filter when shrinking, so that every old pixel counts (antialiasing).
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
        """`apply_image(image)[rows, columns]`, without making the rest where the sizes' ratio is a simple one.

        Args:
            image: the whole image.
            rows: of the resized image; with a start and a stop, as `columns`.
            columns: of the resized image.
        """
        vertical = _blocks(image.shape[0], self.height, rows)
        horizontal = _blocks(image.shape[1], self.width, columns)
        resized = BACKENDS[self.backend](image[vertical.old, horizontal.old], vertical.new_px, horizontal.new_px)
        return resized[vertical.wanted, horizontal.wanted]

    def label_window(self, label: np.ndarray, rows: slice, columns: slice) -> np.ndarray:
        """`apply_label(label)[rows, columns]`, for the arguments see `image_window`."""
        # Not opencv: its INTER_NEAREST_EXACT rounds the step to 1/65536 pixel and is off by one here and there.
        old_rows = _nearest(label.shape[0], self.height, rows)
        old_columns = _nearest(label.shape[1], self.width, columns)
        if self.height < label.shape[0]:
            return label.take(old_rows, axis=0).take(old_columns, axis=1)
        # Whole rows are cheap to repeat: they come last.
        between = label[old_rows[0] : old_rows[-1] + 1]
        return between.take(old_columns, axis=1).take(old_rows - old_rows[0], axis=0)


@dataclass(frozen=True)
class _Blocks:
    """What is resized along one axis: the old pixels, how many new ones they become, which of those are wanted."""

    old: slice
    new_px: int
    wanted: slice


def _blocks(old_px: int, new_px: int, wanted: slice) -> _Blocks:
    divisor = math.gcd(old_px, new_px)
    old_block, new_block = old_px // divisor, new_px // divisor
    if new_block > _MAX_BLOCK_PX:
        return _Blocks(slice(0, old_px), new_px, wanted)
    first = max(wanted.start // new_block - 1, 0)
    stop = min(-(-wanted.stop // new_block) + 1, divisor)
    return _Blocks(
        old=slice(first * old_block, stop * old_block),
        new_px=(stop - first) * new_block,
        wanted=slice(wanted.start - first * new_block, wanted.stop - first * new_block),
    )


def _nearest(old_px: int, new_px: int, wanted: slice) -> np.ndarray:
    """The old pixel that holds each wanted one's centre (the right one where it falls on an edge)."""
    return (2 * np.arange(wanted.start, wanted.stop) + 1) * old_px // (2 * new_px)


def _resize_with_opencv(image: np.ndarray, height: int, width: int) -> np.ndarray:
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR_EXACT)


def _resize_with_pillow(image: np.ndarray, height: int, width: int) -> np.ndarray:
    # Columns, then rows, each rounded. From version 13 on Pillow sometimes begins with the rows, by all four lengths
    # (https://github.com/python-pillow/Pillow/pull/9549), and a window would differ from the whole.
    narrowed = Image.fromarray(image).resize((width, image.shape[0]), Image.Resampling.BILINEAR)
    return np.asarray(narrowed.resize((width, height), Image.Resampling.BILINEAR))


BACKENDS: dict[ResizeBackend, Callable[[np.ndarray, int, int], np.ndarray]] = {
    "cv2": _resize_with_opencv,
    "pil": _resize_with_pillow,
}
