"""Synthetic images and labels whose PNGs decode at the cost of photographs."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from PIL import Image

NUM_CLASSES = 19
OCTAVES = ((256, 30.0), (64, 22.0), (16, 10.0), (4, 2.0))  # grid spacing in pixels, amplitude
COLOR_AMPLITUDE = 0.35  # of differences between channels, relative to that of the brightness
NOISE = 0.4
LABEL_SPACING = 85  # pixels

Pair = tuple[Path, Path]  # image, label


def write_pairs(folder: Path, *, count: int, size: tuple[int, int]) -> list[Pair]:
    """Write images and labels to the folders `images` and `labels`; every call writes the same files.

    An image is a sum of smooth fields, with smaller amplitudes for finer fields, and a little noise. As in photographs,
    nearly every row of its PNG is Paeth-filtered; at 1024x2048 it has about 2 MB, like those of Cityscapes.
    """
    pairs = []
    for index in range(count):
        rng = np.random.default_rng(index)
        pixels = 115 + NOISE * rng.standard_normal((*size, 3), dtype=np.float32)
        for spacing, amplitude in OCTAVES:
            for channels, relative in ((1, 1.0), (3, COLOR_AMPLITUDE)):
                pixels += amplitude * relative * _smooth_field(rng, size, spacing=spacing, channels=channels)
        label = _smooth_field(rng, size, spacing=LABEL_SPACING, channels=NUM_CLASSES).argmax(axis=2)
        pair = (folder / "images" / f"{index:03d}.png", folder / "labels" / f"{index:03d}.png")
        for path, values in zip(pair, (np.rint(pixels).clip(0, 255), label), strict=True):
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(values.astype(np.uint8)).save(path)
        pairs.append(pair)
    return pairs


def _smooth_field(rng: np.random.Generator, size: tuple[int, int], *, spacing: int, channels: int) -> np.ndarray:
    """Return (height, width, channels) float32, interpolated between random values on a grid."""
    nodes = (size[0] // spacing + 2, size[1] // spacing + 2)
    planes = rng.standard_normal((channels, *nodes), dtype=np.float32)
    return np.stack([cv2.resize(p, size[::-1], interpolation=cv2.INTER_CUBIC) for p in planes], axis=-1)
