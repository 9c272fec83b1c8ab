"""Random geometric augmentations: resize, flip, rotation, crop."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dl_lib.config.choices import ResizeBackend
from dl_lib.data.transforms.crop_candidates import CropCandidates
from dl_lib.data.transforms.geometry import CropPad, HorizontalFlip, Rotate
from dl_lib.data.transforms.resize import Resize

__all__ = ["NUM_CANDIDATES", "RandomCropPad", "RandomFlip", "RandomRotation", "RandomScale", "ResizeShortestEdge"]

NUM_CANDIDATES = 10  # crops sampled if the label selects one


@dataclass(frozen=True)
class ResizeShortestEdge:
    """Resize of the shorter edge to a randomly chosen length, with a limit for the longer edge.

    Args:
        short_edges_px: Lengths to choose from, with equal probability.
        max_size_px: Maximum length of the longer edge; if exceeded, the longer edge gets this length, and the aspect
            ratio is kept.
        backend: Resize backend.

    Raises:
        ValueError: If there are no lengths, or one is not positive.
    """

    short_edges_px: tuple[int, ...]
    max_size_px: int
    backend: ResizeBackend = "cv2"

    def __post_init__(self) -> None:
        if not self.short_edges_px or min(*self.short_edges_px, self.max_size_px) < 1:
            raise ValueError(
                "short_edges_px must contain at least one length, and all lengths must be positive. "
                f"Received: short_edges_px={self.short_edges_px}, max_size_px={self.max_size_px}"
            )

    def get_transform(self, rng: np.random.Generator, *, size: tuple[int, int]) -> Resize:
        short_edge = int(rng.choice(self.short_edges_px))
        return _scaled(size, short_edge / min(size), max_size_px=self.max_size_px, backend=self.backend)


@dataclass(frozen=True)
class RandomScale:
    """Resize of both edges by a uniformly distributed factor, with a limit for the longer edge.

    Args:
        factors: (lowest, highest) factor.
        max_size_px: Maximum length of the longer edge; if exceeded, the longer edge gets this length, and the aspect
            ratio is kept.
        backend: Resize backend.

    Raises:
        ValueError: If the factors are not a range of positive numbers, or the length is not positive.
    """

    factors: tuple[float, float]
    max_size_px: int
    backend: ResizeBackend = "cv2"

    def __post_init__(self) -> None:
        if not 0 < self.factors[0] <= self.factors[1] or self.max_size_px < 1:
            raise ValueError(
                "factors must be (lowest, highest) with 0 < lowest <= highest, and max_size_px must be positive. "
                f"Received: factors={self.factors}, max_size_px={self.max_size_px}"
            )

    def get_transform(self, rng: np.random.Generator, *, size: tuple[int, int]) -> Resize:
        return _scaled(size, float(rng.uniform(*self.factors)), max_size_px=self.max_size_px, backend=self.backend)


@dataclass(frozen=True)
class RandomFlip:
    """Horizontal flip with a given probability, 0..1."""

    probability: float = 0.5

    def __post_init__(self) -> None:
        if not 0 <= self.probability <= 1:
            raise ValueError(f"probability must be in 0..1. Received: probability={self.probability}")

    def get_transform(self, rng: np.random.Generator, *, size: tuple[int, int]) -> HorizontalFlip:
        return HorizontalFlip(bool(rng.uniform(0, 1) < self.probability))


@dataclass(frozen=True)
class RandomRotation:
    """Rotation by a uniformly distributed angle.

    Args:
        max_degrees: Maximum angle in both directions.
        image_pad: Raw pixel value, 0..255, outside of the rotated image.
        label_pad: Label outside of the rotated image.

    Raises:
        ValueError: If the angle or the pixel value is out of range.
    """

    max_degrees: float
    image_pad: int = 0
    label_pad: int = 255

    def __post_init__(self) -> None:
        if not 0 <= self.max_degrees <= 180:
            raise ValueError(f"max_degrees must be in 0..180. Received: max_degrees={self.max_degrees}")
        _check_pixel_value(self.image_pad)

    def get_transform(self, rng: np.random.Generator, *, size: tuple[int, int]) -> Rotate:
        return Rotate(float(rng.uniform(-self.max_degrees, self.max_degrees)), self.image_pad, self.label_pad)


@dataclass(frozen=True)
class RandomCropPad:
    """Random crop of a fixed size; smaller images are padded on all sides.

    Args:
        crop_size: (height, width) of the result.
        image_pad: Raw pixel value of the padding, 0..255.
        label_pad: Label of the padding, and ignore index for class ratios.
        max_class_ratio: If below 1, `NUM_CANDIDATES` crops are sampled and one is selected by its label, see
            `CropCandidates`. The first candidate is the crop that would be sampled with a ratio of 1.

    Raises:
        ValueError: If the crop is empty, or the pixel value or the ratio is out of range.
    """

    crop_size: tuple[int, int]
    image_pad: int = 0
    label_pad: int = 255
    max_class_ratio: float = 1.0

    def __post_init__(self) -> None:
        if len(self.crop_size) != 2 or min(self.crop_size) < 1:
            raise ValueError(f"crop_size must be (height, width), both positive. Received: crop_size={self.crop_size}")
        _check_pixel_value(self.image_pad)
        if not 0 < self.max_class_ratio <= 1:
            raise ValueError(
                f"max_class_ratio must be above 0 and at most 1. Received: max_class_ratio={self.max_class_ratio}"
            )

    def get_transform(self, rng: np.random.Generator, *, size: tuple[int, int]) -> CropPad | CropCandidates:
        if self.max_class_ratio == 1:
            return self._sample_crop(rng, size)
        crops = tuple(self._sample_crop(rng, size) for _ in range(NUM_CANDIDATES))
        return CropCandidates(crops, self.max_class_ratio, self.label_pad)

    def _sample_crop(self, rng: np.random.Generator, size: tuple[int, int]) -> CropPad:
        top, left = (
            int(rng.integers(side - crop + 1)) if side >= crop else 0
            for side, crop in zip(size, self.crop_size, strict=True)
        )
        window = (min(size[0], self.crop_size[0]), min(size[1], self.crop_size[1]))
        return CropPad(top, left, window, self.crop_size, self.image_pad, self.label_pad)


def _scaled(size: tuple[int, int], factor: float, *, max_size_px: int, backend: ResizeBackend) -> Resize:
    factor = min(factor, max_size_px / max(size))
    height, width = (max(1, int(side * factor + 0.5)) for side in size)
    return Resize(height, width, backend)


def _check_pixel_value(image_pad: int) -> None:
    if not 0 <= image_pad <= 255:
        raise ValueError(f"image_pad must be in 0..255. Received: image_pad={image_pad}")
