"""Resize, flip and crop in one: only what the crop shows is made."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import cv2
import numpy as np

from dl_lib.data.transforms.geometry import CropPad, HorizontalFlip
from dl_lib.data.transforms.resize import Resize
from dl_lib.data.transforms.transform import Transform

__all__ = ["FusedCrop", "fuse"]


@dataclass(frozen=True)
class FusedCrop:
    """Resize, flip, crop, one after the other and with equal results, but much faster.

    Args:
        resize: comes first; None leaves the size.
        flipped: whether left and right then change places.
        crop: of what comes out of both.
    """

    resize: Resize | None
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
        """Rows and columns that the crop shows, before the flip."""
        if not self.flipped:
            return self.crop.rows, self.crop.columns
        width = array.shape[1] if self.resize is None else self.resize.width
        columns = self.crop.columns
        return self.crop.rows, slice(width - columns.stop, width - columns.start)


def fuse(transforms: Iterable[Transform]) -> tuple[Transform, ...]:
    """The same transforms, with each crop drawn together with the resize and the flip that come right before it."""
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
