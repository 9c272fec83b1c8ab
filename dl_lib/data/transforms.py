"""Geometry of augmentation: an augmentation draws a frozen geometry, which is then applied to image and label alike.

Drawing needs only the image's size, so geometry can be looked at, logged and tested without a pixel.
Images are (H, W, 3) uint8, labels (H, W) of any integer type; sizes are (height, width) in pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import cv2
import numpy as np

__all__ = [
    "Augmentation",
    "CropPad",
    "Geometry",
    "HorizontalFlip",
    "RandomCropPad",
    "RandomFlip",
    "Resize",
    "ResizeShortestEdge",
    "draw_geometries",
]


class Geometry(Protocol):
    """What happens to one image and its label; nothing in it is random any more."""

    def output_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """(height, width) of what comes out when (height, width) goes in."""
        ...

    def apply_image(self, image: np.ndarray) -> np.ndarray: ...

    def apply_label(self, label: np.ndarray) -> np.ndarray: ...


class Augmentation(Protocol):
    """A rule by which geometries are drawn."""

    def draw(self, rng: np.random.Generator, *, size: tuple[int, int]) -> Geometry:
        """The geometry for one image of this (height, width)."""
        ...


@dataclass(frozen=True)
class Resize:
    """Bilinear for images; for labels the pixel that holds the centre of the new one, exactly."""

    height: int
    width: int

    def output_size(self, size: tuple[int, int]) -> tuple[int, int]:
        return self.height, self.width

    def apply_image(self, image: np.ndarray) -> np.ndarray:
        return cv2.resize(image, (self.width, self.height), interpolation=cv2.INTER_LINEAR)

    def apply_label(self, label: np.ndarray) -> np.ndarray:
        # Not opencv: its INTER_NEAREST_EXACT rounds the step to 1/65536 pixel and is off by one here and there.
        rows = _nearest(label.shape[0], self.height)
        columns = _nearest(label.shape[1], self.width)
        if self.height < label.shape[0]:
            return label.take(rows, axis=0).take(columns, axis=1)
        return label.take(columns, axis=1).take(rows, axis=0)  # whole rows are cheap to repeat: they come last


@dataclass(frozen=True)
class HorizontalFlip:
    """Left and right change places, or nothing happens."""

    flipped: bool

    def output_size(self, size: tuple[int, int]) -> tuple[int, int]:
        return size

    def apply_image(self, image: np.ndarray) -> np.ndarray:
        return image[:, ::-1] if self.flipped else image

    def apply_label(self, label: np.ndarray) -> np.ndarray:
        return label[:, ::-1] if self.flipped else label


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

    def output_size(self, size: tuple[int, int]) -> tuple[int, int]:
        return self.output

    def apply_image(self, image: np.ndarray) -> np.ndarray:
        return self._apply(image, pad=self.image_pad)

    def apply_label(self, label: np.ndarray) -> np.ndarray:
        return self._apply(label, pad=self.label_pad)

    def _apply(self, array: np.ndarray, *, pad: int) -> np.ndarray:
        height, width = self.window
        window = array[self.top : self.top + height, self.left : self.left + width]
        if self.window == self.output:
            return window
        result = np.full((*self.output, *array.shape[2:]), pad, array.dtype)
        above, before = self.pad_top_left
        result[above : above + height, before : before + width] = window
        return result


@dataclass(frozen=True)
class ResizeShortestEdge:
    """Bring the shorter edge to a length drawn from a list, unless the longer one would then be too long.

    Args:
        short_edges_px: lengths to choose from, each as likely as the others.
        max_size_px: the longer edge, at most; beyond it, the longer edge gets this length and the shorter one follows.

    Raises:
        ValueError: if there is no length to choose from, or one is not positive.
    """

    short_edges_px: tuple[int, ...]
    max_size_px: int

    def __post_init__(self) -> None:
        if not self.short_edges_px or min(*self.short_edges_px, self.max_size_px) < 1:
            raise ValueError(
                "the shorter edge needs at least one length to choose from, and all lengths must be positive. "
                f"Received: short_edges_px={self.short_edges_px}, max_size_px={self.max_size_px}"
            )

    def draw(self, rng: np.random.Generator, *, size: tuple[int, int]) -> Resize:
        short_edge = int(rng.choice(self.short_edges_px))
        scale = min(short_edge / min(size), self.max_size_px / max(size))
        height, width = (max(1, int(side * scale + 0.5)) for side in size)
        return Resize(height, width)


@dataclass(frozen=True)
class RandomFlip:
    """Left and right change places with a probability.

    Raises:
        ValueError: if this is no probability.
    """

    probability: float = 0.5

    def __post_init__(self) -> None:
        if not 0 <= self.probability <= 1:
            raise ValueError(f"a probability lies in 0..1. Received: probability={self.probability}")

    def draw(self, rng: np.random.Generator, *, size: tuple[int, int]) -> HorizontalFlip:
        return HorizontalFlip(bool(rng.uniform(0, 1) < self.probability))


@dataclass(frozen=True)
class RandomCropPad:
    """A window of one size from anywhere in the image; where the image is smaller, it is padded round about.

    Args:
        crop_size: (height, width) of the result.
        image_pad: raw pixel value beside the image, 0..255.
        label_pad: label beside the image.

    Raises:
        ValueError: if the crop is empty, or the value is no pixel value.
    """

    crop_size: tuple[int, int]
    image_pad: int = 0
    label_pad: int = 255

    def __post_init__(self) -> None:
        if len(self.crop_size) != 2 or min(self.crop_size) < 1:
            raise ValueError(f"a crop is (height, width), both positive. Received: crop_size={self.crop_size}")
        if not 0 <= self.image_pad <= 255:
            raise ValueError(f"a raw pixel value lies in 0..255. Received: image_pad={self.image_pad}")

    def draw(self, rng: np.random.Generator, *, size: tuple[int, int]) -> CropPad:
        top, left = (
            int(rng.integers(side - crop + 1)) if side >= crop else 0
            for side, crop in zip(size, self.crop_size, strict=True)
        )
        window = (min(size[0], self.crop_size[0]), min(size[1], self.crop_size[1]))
        return CropPad(top, left, window, self.crop_size, self.image_pad, self.label_pad)


def draw_geometries(
    augmentations: Sequence[Augmentation], *, rng: np.random.Generator, size: tuple[int, int]
) -> tuple[Geometry, ...]:
    """One geometry from each augmentation, in their order; each is drawn for the size that those before it give."""
    geometries: list[Geometry] = []
    for augmentation in augmentations:
        geometries.append(augmentation.draw(rng, size=size))
        size = geometries[-1].output_size(size)
    return tuple(geometries)


def _nearest(old_px: int, new_px: int) -> np.ndarray:
    """(new_px,) the old pixel that holds each new pixel's centre (the right one where it falls on an edge)."""
    return (2 * np.arange(new_px) + 1) * old_px // (2 * new_px)
