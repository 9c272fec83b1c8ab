"""Synthetic images and labels whose PNGs decode at the cost of photographs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

NUM_CLASSES = 19
_OCTAVES = ((256, 30.0), (64, 22.0), (16, 10.0), (4, 2.0))  # grid spacing in pixels, amplitude
_COLOR = 0.35  # amplitude of the differences between channels, relative to that of the brightness
_NOISE = 0.4
_LABEL_SPACING = 85  # pixels


@dataclass(frozen=True)
class Pair:
    """Paths of an image and its label, both PNGs."""

    image: Path
    label: Path


def write_pairs(folder: Path, *, count: int, size: tuple[int, int]) -> list[Pair]:
    """Write images and labels to the folders `images` and `labels`; they are the same in each call.

    An image is a sum of smooth fields, the finer the weaker, with a little noise. As in photographs, nearly every row
    of its PNG is Paeth-filtered; at 1024x2048 it has about 2 MB, like those of Cityscapes.

    Args:
        folder: Folder, created if missing.
        count: Number of pairs.
        size: (height, width) in pixels.
    """
    pairs = []
    for index in range(count):
        rng = np.random.default_rng(index)
        pair = Pair(folder / "images" / f"{index:03d}.png", folder / "labels" / f"{index:03d}.png")
        for path, pixels in ((pair.image, _image(rng, size)), (pair.label, _label(rng, size))):
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)
        pairs.append(pair)
    return pairs


def _image(rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    pixels = 115 + _NOISE * rng.standard_normal((*size, 3), dtype=np.float32)
    for spacing, amplitude in _OCTAVES:
        for channels, relative in ((1, 1.0), (3, _COLOR)):
            pixels += amplitude * relative * _smooth_field(rng, size, spacing=spacing, channels=channels)
    return np.rint(pixels).clip(0, 255).astype(np.uint8)


def _label(rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    return _smooth_field(rng, size, spacing=_LABEL_SPACING, channels=NUM_CLASSES).argmax(axis=2).astype(np.uint8)


def _smooth_field(rng: np.random.Generator, size: tuple[int, int], *, spacing: int, channels: int) -> np.ndarray:
    """Return (height, width, channels) float32, interpolated between random values on a grid."""
    nodes = (size[0] // spacing + 2, size[1] // spacing + 2)
    planes = rng.standard_normal((channels, *nodes), dtype=np.float32)
    return np.stack([cv2.resize(p, size[::-1], interpolation=cv2.INTER_CUBIC) for p in planes], axis=-1)
