"""From rules to the transforms of one image."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import Protocol

import numpy as np

from dl_lib.data.transforms.crop_choice import CropChoice
from dl_lib.data.transforms.fused import fuse
from dl_lib.data.transforms.geometry import CropPad
from dl_lib.data.transforms.transform import Transform

__all__ = ["Augmentation", "draw_transforms"]


class Augmentation(Protocol):
    """A rule by which transforms are drawn."""

    def draw(self, rng: np.random.Generator, *, size: tuple[int, int]) -> Transform | CropChoice:
        """The transform for one image of this (height, width), or some that its label will choose from."""
        ...


def draw_transforms(
    augmentations: Sequence[Augmentation],
    *,
    rng: np.random.Generator,
    size: tuple[int, int],
    label: np.ndarray | None = None,
) -> tuple[Transform, ...]:
    """One transform from each augmentation, in their order; each is drawn for the size that those before it give.

    Args:
        augmentations: in the order in which their transforms will be applied.
        rng: where every draw comes from; how many there are does not depend on the label.
        size: (height, width) of the image.
        label: of the image; is looked at only where a crop is to be chosen by it. Without one, the first crop drawn
            is taken.
    """
    transforms: list[Transform] = []
    for augmentation in augmentations:
        drawn = augmentation.draw(rng, size=size)
        if isinstance(drawn, CropChoice):
            drawn = _choose(drawn, transforms, label)
        transforms.append(drawn)
        size = drawn.output_size(size)
    return tuple(transforms)


def _choose(choice: CropChoice, before: Sequence[Transform], label: np.ndarray | None) -> CropPad:
    if label is None:
        return choice.crops[0]

    def look(crop: CropPad) -> np.ndarray:
        return reduce(lambda seen, transform: transform.apply_label(seen), fuse([*before, crop]), label)

    return choice.choose(look)
