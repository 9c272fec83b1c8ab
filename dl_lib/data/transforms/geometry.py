"""Transforms that move pixels without resizing: flip, rotation, crop with padding."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

__all__ = ["CropPad", "HorizontalFlip", "Rotate"]

_WARPED_TYPES = (np.uint8, np.int16, np.uint16)  # of labels, as they are; all others take a detour


@dataclass(frozen=True)
class HorizontalFlip:
    """Left and right change places, or nothing happens."""

    flipped: bool

    def output_size(self, size: tuple[int, int]) -> tuple[int, int]:
        return size

    def apply_image(self, image: np.ndarray) -> np.ndarray:
        return cv2.flip(image, 1) if self.flipped else image

    def apply_label(self, label: np.ndarray) -> np.ndarray:
        return label[:, ::-1] if self.flipped else label


@dataclass(frozen=True)
class Rotate:
    """A rotation about the centre that keeps the size: bilinear for images, the nearest pixel for labels.

    Args:
        degrees: counter-clockwise.
        image_pad: raw pixel value where the rotated image does not reach, the same in each channel.
        label_pad: label there.
    """

    degrees: float
    image_pad: int
    label_pad: int

    def output_size(self, size: tuple[int, int]) -> tuple[int, int]:
        return size

    def apply_image(self, image: np.ndarray) -> np.ndarray:
        return self._warp(image, flags=cv2.INTER_LINEAR, pad=self.image_pad)

    def apply_label(self, label: np.ndarray) -> np.ndarray:
        label = label.astype(_type_for(label, self.label_pad), copy=False)
        if label.dtype in _WARPED_TYPES:
            return self._warp(label, flags=cv2.INTER_NEAREST, pad=self.label_pad)
        # Opencv does not know these types. Float64 holds their values as they are, and nothing is computed with them.
        return self._warp(label.astype(np.float64), flags=cv2.INTER_NEAREST, pad=self.label_pad).astype(label.dtype)

    def _warp(self, array: np.ndarray, *, flags: int, pad: int) -> np.ndarray:
        height, width = array.shape[:2]
        affine = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), self.degrees, 1.0)
        return cv2.warpAffine(array, affine, (width, height), flags=flags, borderValue=(pad,) * 3)


@dataclass(frozen=True)
class CropPad:
    """A window of the input, set into the middle of a constant.

    Args:
        top: first row of the window.
        left: first column of the window.
        window: its (height, width).
        output: (height, width) of the result, at least the window's; an odd pixel of padding goes right or below.
        image_pad: raw pixel value beside the image, the same in each channel.
        label_pad: label beside the image.
    """

    top: int
    left: int
    window: tuple[int, int]
    output: tuple[int, int]
    image_pad: int
    label_pad: int

    @property
    def pad_top_left(self) -> tuple[int, int]:
        return (self.output[0] - self.window[0]) // 2, (self.output[1] - self.window[1]) // 2

    @property
    def rows(self) -> slice:
        """Of the input, that are in the window."""
        return slice(self.top, self.top + self.window[0])

    @property
    def columns(self) -> slice:
        """Of the input, that are in the window."""
        return slice(self.left, self.left + self.window[1])

    def output_size(self, size: tuple[int, int]) -> tuple[int, int]:
        return self.output

    def apply_image(self, image: np.ndarray) -> np.ndarray:
        return self.pad_image(image[self.rows, self.columns])

    def apply_label(self, label: np.ndarray) -> np.ndarray:
        return self.pad_label(label[self.rows, self.columns])

    def pad_image(self, window: np.ndarray) -> np.ndarray:
        """Set the window's pixels, (*window, 3), into their padding."""
        return self._pad(window, pad=self.image_pad)

    def pad_label(self, window: np.ndarray) -> np.ndarray:
        """Set the window's labels, of shape `window`, into their padding."""
        return self._pad(window, pad=self.label_pad)

    def _pad(self, window: np.ndarray, *, pad: int) -> np.ndarray:
        if self.window == self.output:
            return window
        result = np.full((*self.output, *window.shape[2:]), pad, _type_for(window, pad))
        above, before = self.pad_top_left
        result[above : above + self.window[0], before : before + self.window[1]] = window
        return result


def _type_for(array: np.ndarray, value: int) -> np.dtype:
    """The array's own type, or one that holds this value beside the array's."""
    return np.result_type(array.dtype, np.min_scalar_type(value))
