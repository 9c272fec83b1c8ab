"""Rules that draw where the pixels go: resize, flip, rotation, crop."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dl_lib.config.choices import ResizeBackend
from dl_lib.data.transforms.crop_candidates import CropCandidates
from dl_lib.data.transforms.geometry import CropPad, HorizontalFlip, Rotate
from dl_lib.data.transforms.resize import Resize

__all__ = ["NUM_CANDIDATES", "RandomCropPad", "RandomFlip", "RandomRotation", "RandomScale", "ResizeShortestEdge"]

NUM_CANDIDATES = 10  # where the label chooses


@dataclass(frozen=True)
class ResizeShortestEdge:
    """Bring the shorter edge to a length drawn from a list, unless the longer one would then be too long.

    Args:
        short_edges_px: lengths to choose from, each as likely as the others.
        max_size_px: the longer edge, at most; beyond it, the longer edge gets this length and the shorter one follows.
        backend: of the resize.

    Raises:
        ValueError: if there is no length to choose from, or one is not positive.
    """

    short_edges_px: tuple[int, ...]
    max_size_px: int
    backend: ResizeBackend = "cv2"

    def __post_init__(self) -> None:
        if not self.short_edges_px or min(*self.short_edges_px, self.max_size_px) < 1:
            raise ValueError(
                "the shorter edge needs at least one length to choose from, and all lengths must be positive. "
                f"Received: short_edges_px={self.short_edges_px}, max_size_px={self.max_size_px}"
            )

    def get_transform(self, rng: np.random.Generator, *, size: tuple[int, int]) -> Resize:
        short_edge = int(rng.choice(self.short_edges_px))
        return _scaled(size, short_edge / min(size), max_size_px=self.max_size_px, backend=self.backend)


@dataclass(frozen=True)
class RandomScale:
    """Multiply both sides by a factor drawn uniformly, unless the longer one would then be too long.

    Args:
        factors: (lowest, highest).
        max_size_px: the longer edge, at most; beyond it, it gets this length and the shorter one follows.
        backend: of the resize.

    Raises:
        ValueError: if this is no range of positive factors, or the length is not positive.
    """

    factors: tuple[float, float]
    max_size_px: int
    backend: ResizeBackend = "cv2"

    def __post_init__(self) -> None:
        if not 0 < self.factors[0] <= self.factors[1] or self.max_size_px < 1:
            raise ValueError(
                "factors are (lowest, highest), both positive, and so is the longer edge. "
                f"Received: factors={self.factors}, max_size_px={self.max_size_px}"
            )

    def get_transform(self, rng: np.random.Generator, *, size: tuple[int, int]) -> Resize:
        return _scaled(size, float(rng.uniform(*self.factors)), max_size_px=self.max_size_px, backend=self.backend)


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

    def get_transform(self, rng: np.random.Generator, *, size: tuple[int, int]) -> HorizontalFlip:
        return HorizontalFlip(bool(rng.uniform(0, 1) < self.probability))


@dataclass(frozen=True)
class RandomRotation:
    """Rotate by an angle drawn uniformly, to either side.

    Args:
        max_degrees: to either side.
        image_pad: raw pixel value where the rotated image does not reach, 0..255.
        label_pad: label there.

    Raises:
        ValueError: if the angle is no such angle, or the value is no pixel value.
    """

    max_degrees: float
    image_pad: int = 0
    label_pad: int = 255

    def __post_init__(self) -> None:
        if not 0 <= self.max_degrees <= 180:
            raise ValueError(f"an angle to either side lies in 0..180. Received: max_degrees={self.max_degrees}")
        _check_pixel_value(self.image_pad)

    def get_transform(self, rng: np.random.Generator, *, size: tuple[int, int]) -> Rotate:
        return Rotate(float(rng.uniform(-self.max_degrees, self.max_degrees)), self.image_pad, self.label_pad)


@dataclass(frozen=True)
class RandomCropPad:
    """A window of one size from anywhere in the image; where the image is smaller, it is padded round about.

    Args:
        crop_size: (height, width) of the result.
        image_pad: raw pixel value beside the image, 0..255.
        label_pad: label beside the image, and of the pixels that do not count for a class.
        max_class_ratio: If below 1, `NUM_CANDIDATES` crops are sampled of which the label selects one, see
            `CropCandidates`. The first is the crop sampled with 1.

    Raises:
        ValueError: if the crop is empty, the value is no pixel value, or the share is none.
    """

    crop_size: tuple[int, int]
    image_pad: int = 0
    label_pad: int = 255
    max_class_ratio: float = 1.0

    def __post_init__(self) -> None:
        if len(self.crop_size) != 2 or min(self.crop_size) < 1:
            raise ValueError(f"a crop is (height, width), both positive. Received: crop_size={self.crop_size}")
        _check_pixel_value(self.image_pad)
        if not 0 < self.max_class_ratio <= 1:
            raise ValueError(
                "the largest share of a class lies above 0 and not above 1. "
                f"Received: max_class_ratio={self.max_class_ratio}"
            )

    def get_transform(self, rng: np.random.Generator, *, size: tuple[int, int]) -> CropPad | CropCandidates:
        if self.max_class_ratio == 1:
            return self._draw_one(rng, size)
        crops = tuple(self._draw_one(rng, size) for _ in range(NUM_CANDIDATES))
        return CropCandidates(crops, self.max_class_ratio, self.label_pad)

    def _draw_one(self, rng: np.random.Generator, size: tuple[int, int]) -> CropPad:
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
        raise ValueError(f"a raw pixel value lies in 0..255. Received: image_pad={image_pad}")
