"""Pictures to load: PNGs whose cost of decoding is that of photographs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from dl_lib.utils.progress import progress_bar

__all__ = ["NUM_CLASSES", "PicturePair", "write_pairs"]

NUM_CLASSES = 19
_OCTAVES = ((256, 30.0), (64, 22.0), (16, 10.0), (4, 2.0))  # distance of the nodes in pixels, and strength
_COLOR = 0.35  # share of what differs from channel to channel
_NOISE = 0.4
_LABEL_CELL_PX = 85


@dataclass(frozen=True)
class PicturePair:
    """Attributes: paths of an `image` and its `label`, both PNGs."""

    image: Path
    label: Path


def write_pairs(folder: Path, *, count: int, size: tuple[int, int]) -> tuple[PicturePair, ...]:
    """Write images and labels into the folders `images` and `labels`; the same ones each time.

    An image is a sum of smooth fields, the finer the weaker, with a little noise. As in photographs, nearly every row
    of its PNG is Paeth-filtered; at 1024 x 2048 it has about 2 MB, as Cityscapes' images have.

    Args:
        folder: is made where it does not exist.
        count: how many pairs.
        size: (height, width) in pixels.
    """
    for name in ("images", "labels"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    pairs = []
    with progress_bar(count, description="pictures", unit="picture") as bar:
        for index in range(count):
            rng = np.random.default_rng(index)
            pair = PicturePair(folder / "images" / f"{index:03d}.png", folder / "labels" / f"{index:03d}.png")
            Image.fromarray(_draw_image(rng, size)).save(pair.image)
            Image.fromarray(_draw_label(rng, size)).save(pair.label)
            pairs.append(pair)
            bar.update()
    return tuple(pairs)


def _draw_image(rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    canvas = 115 + _NOISE * rng.standard_normal((*size, 3), dtype=np.float32)
    for cell_px, strength in _OCTAVES:
        for channels, share in ((1, 1.0), (3, _COLOR)):
            canvas += strength * share * _smooth_field(rng, size, cell_px=cell_px, channels=channels)
    return np.rint(canvas).clip(0, 255).astype(np.uint8)


def _draw_label(rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    return _smooth_field(rng, size, cell_px=_LABEL_CELL_PX, channels=NUM_CLASSES).argmax(axis=2).astype(np.uint8)


def _smooth_field(rng: np.random.Generator, size: tuple[int, int], *, cell_px: int, channels: int) -> np.ndarray:
    """(height, width, channels) float32."""
    nodes = (size[0] // cell_px + 2, size[1] // cell_px + 2)
    planes = rng.standard_normal((channels, *nodes), dtype=np.float32)
    return np.stack([cv2.resize(p, size[::-1], interpolation=cv2.INTER_CUBIC) for p in planes], axis=-1)
