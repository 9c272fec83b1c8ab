"""Geometric transforms without resizing: flip, rotation, crop with padding."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

__all__ = ["CropPad", "HorizontalFlip", "Rotate"]

_WARP_DTYPES = (np.uint8, np.int16, np.uint16)  # label dtypes that cv2.warpAffine supports


@dataclass(frozen=True)
class HorizontalFlip:
    """Horizontal flip, or identity if not `flipped`."""

    flipped: bool

    def output_size(self, size: tuple[int, int]) -> tuple[int, int]:
        return size

    def apply_image(self, image: np.ndarray) -> np.ndarray:
        return cv2.flip(image, 1) if self.flipped else image

    def apply_label(self, label: np.ndarray) -> np.ndarray:
        return label[:, ::-1] if self.flipped else label


@dataclass(frozen=True)
class Rotate:
    """Rotation about the center that keeps the size: bilinear for images, nearest for labels.

    Args:
        degrees: Angle, counter-clockwise.
        image_pad: Raw pixel value outside of the rotated image, equal in all channels.
        label_pad: Label outside of the rotated image.
    """

    degrees: float
    image_pad: int
    label_pad: int

    def output_size(self, size: tuple[int, int]) -> tuple[int, int]:
        return size

    def apply_image(self, image: np.ndarray) -> np.ndarray:
        return self._warp(image, flags=cv2.INTER_LINEAR, pad=self.image_pad)

    def apply_label(self, label: np.ndarray) -> np.ndarray:
        label = label.astype(_promoted_dtype(label, self.label_pad), copy=False)
        if label.dtype in _WARP_DTYPES:
            return self._warp(label, flags=cv2.INTER_NEAREST, pad=self.label_pad)
        # OpenCV does not support the other integer dtypes; float64 represents their labels exactly.
        return self._warp(label.astype(np.float64), flags=cv2.INTER_NEAREST, pad=self.label_pad).astype(label.dtype)

    def _warp(self, array: np.ndarray, *, flags: int, pad: int) -> np.ndarray:
        height, width = array.shape[:2]
        affine = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), self.degrees, 1.0)
        return cv2.warpAffine(array, affine, (width, height), flags=flags, borderValue=(pad,) * 3)


@dataclass(frozen=True)
class CropPad:
    """Crop of a window, centered in constant padding.

    Args:
        top: First row of the window.
        left: First column of the window.
        window: (height, width) of the window.
        output: (height, width) of the result, at least that of the window. If the padding is odd, the bottom or right
            side is one pixel wider.
        image_pad: Raw pixel value of the padding, equal in all channels.
        label_pad: Label of the padding.
    """

    top: int
    left: int
    window: tuple[int, int]
    output: tuple[int, int]
    image_pad: int
    label_pad: int

    @property
    def pad_top_left(self) -> tuple[int, int]:
        """Padding (above, left of) the window in pixels."""
        return (self.output[0] - self.window[0]) // 2, (self.output[1] - self.window[1]) // 2

    @property
    def rows(self) -> slice:
        return slice(self.top, self.top + self.window[0])

    @property
    def columns(self) -> slice:
        return slice(self.left, self.left + self.window[1])

    def output_size(self, size: tuple[int, int]) -> tuple[int, int]:
        return self.output

    def apply_image(self, image: np.ndarray) -> np.ndarray:
        return self.pad_image(image[self.rows, self.columns])

    def apply_label(self, label: np.ndarray) -> np.ndarray:
        return self.pad_label(label[self.rows, self.columns])

    def pad_image(self, window: np.ndarray) -> np.ndarray:
        return self._pad(window, pad=self.image_pad)

    def pad_label(self, window: np.ndarray) -> np.ndarray:
        return self._pad(window, pad=self.label_pad)

    def _pad(self, window: np.ndarray, *, pad: int) -> np.ndarray:
        if self.window == self.output:
            return window
        result = np.full((*self.output, *window.shape[2:]), pad, _promoted_dtype(window, pad))
        top, left = self.pad_top_left
        result[top : top + self.window[0], left : left + self.window[1]] = window
        return result


def _promoted_dtype(array: np.ndarray, value: int) -> np.dtype:
    """Return the dtype of an array, promoted if it cannot represent a value."""
    return np.result_type(array.dtype, np.min_scalar_type(value))
