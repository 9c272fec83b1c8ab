"""Augmentation pipeline: protocols, sampling of transforms, and fusion of resize, flip and crop."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Protocol

import cv2
import numpy as np
from fvcore.common.registry import Registry

from dl_lib.data.transforms.crop_candidates import CropCandidates
from dl_lib.data.transforms.geometry import CropPad, HorizontalFlip
from dl_lib.data.transforms.resize import Resize

__all__ = ["AUGMENTATION_REGISTRY", "Augmentation", "FusedCrop", "Transform", "fuse", "sample_transforms"]


class Transform(Protocol):
    """Deterministic transform of an image and its label. Inputs are not modified."""

    def output_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """Return the (height, width) of the output for an input of size (height, width)."""
        ...

    def apply_image(self, image: np.ndarray) -> np.ndarray:
        """Transform an image, (H, W, 3) uint8."""
        ...

    def apply_label(self, label: np.ndarray) -> np.ndarray:
        """Transform a label, (H, W) integers."""
        ...


class Augmentation(Protocol):
    """Distribution of random transforms."""

    def get_transform(self, rng: np.random.Generator, *, size: tuple[int, int]) -> Transform | CropCandidates:
        """Sample a transform, or crop candidates, for an image of size (height, width)."""
        ...


AUGMENTATION_REGISTRY = Registry("AUGMENTATION")
AUGMENTATION_REGISTRY.__doc__ = """Augmentations of an experiment, the choices of `INPUT.EXTRA_AUGMENTATIONS`.

An `Augmentation`, built as `make(cfg)`. Its transforms take all random numbers from the generator in `get_transform`,
so that a resumed run draws the same ones. Loader workers may receive it pickled: its class must be at module level.
"""


def sample_transforms(
    augmentations: Sequence[Augmentation],
    *,
    rng: np.random.Generator,
    size: tuple[int, int],
    label: np.ndarray | None = None,
) -> tuple[Transform, ...]:
    """Sample one transform from each augmentation, each for the output size of the previous one.

    Args:
        augmentations: Augmentations in the order of application.
        rng: Random generator. The number of draws does not depend on the label.
        size: (height, width) of the image.
        label: Label of the image; only used to select among `CropCandidates`. Without a label, the first candidate is
            selected.
    """
    transforms: list[Transform] = []
    for augmentation in augmentations:
        transform = augmentation.get_transform(rng, size=size)
        if isinstance(transform, CropCandidates):
            transform = _select_crop(transform, transforms, label)
        transforms.append(transform)
        size = transform.output_size(size)
    return tuple(transforms)


def _select_crop(candidates: CropCandidates, previous: Sequence[Transform], label: np.ndarray | None) -> CropPad:
    if label is None:
        return candidates.crops[0]

    def crop_label(crop: CropPad) -> np.ndarray:
        return reduce(lambda array, transform: transform.apply_label(array), fuse([*previous, crop]), label)

    return candidates.select(crop_label)


@dataclass(frozen=True)
class FusedCrop:
    """Resize, flip and crop in one step: equal results, but only the pixels inside the crop are computed."""

    resize: Resize | None  # None keeps the size
    flipped: bool
    crop: CropPad

    def output_size(self, size: tuple[int, int]) -> tuple[int, int]:
        return self.crop.output

    def apply_image(self, image: np.ndarray) -> np.ndarray:
        rows, columns = self._window(image)
        window = image[rows, columns] if self.resize is None else self.resize.image_window(image, rows, columns)
        return self.crop.pad_image(cv2.flip(window, 1) if self.flipped else window)

    def apply_label(self, label: np.ndarray) -> np.ndarray:
        rows, columns = self._window(label)
        window = label[rows, columns] if self.resize is None else self.resize.label_window(label, rows, columns)
        return self.crop.pad_label(window[:, ::-1] if self.flipped else window)

    def _window(self, array: np.ndarray) -> tuple[slice, slice]:
        """Return the rows and columns of the crop in the resized image before the flip."""
        if not self.flipped:
            return self.crop.rows, self.crop.columns
        width = array.shape[1] if self.resize is None else self.resize.width
        columns = self.crop.columns
        return self.crop.rows, slice(width - columns.stop, width - columns.start)


def fuse(transforms: Iterable[Transform]) -> tuple[Transform, ...]:
    """Return an equivalent sequence in which each crop absorbs the resize and the flip directly before it."""
    fused: list[Transform] = []
    for transform in transforms:
        if isinstance(transform, CropPad):
            flipped, resize = False, None
            if fused and isinstance(fused[-1], HorizontalFlip):
                flipped = fused[-1].flipped
                fused.pop()
            if fused and isinstance(fused[-1], Resize):
                resize = fused[-1]
                fused.pop()
            transform = FusedCrop(resize, flipped, transform)
        fused.append(transform)
    return tuple(fused)
