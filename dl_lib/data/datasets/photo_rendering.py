"""Zoom, rotation and colors of photographs in generated scenes."""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np

__all__ = ["build_pyramid", "recolor_photo", "warp_photo"]

MIN_LEVEL_PX = 32  # minimum side length of the levels of a pyramid


def build_pyramid(image: np.ndarray) -> list[np.ndarray]:
    """Return an image and its reductions by 2, 4, ..., so that no zoom skips pixels."""
    levels = [image]
    while min(levels[-1].shape[:2]) >= 2 * MIN_LEVEL_PX:
        height, width = levels[-1].shape[:2]
        levels.append(cv2.resize(levels[-1], (width // 2, height // 2), interpolation=cv2.INTER_AREA))
    return levels


def warp_photo(
    pyramid: Sequence[np.ndarray],
    *,
    center: tuple[float, float],
    zoom: float,
    radians: float,
    size: tuple[int, int],
) -> np.ndarray:
    """Return the part of an image around a center, (height, width, 3) uint8; reflected outside of the image."""
    level = min(max(0, math.floor(-math.log2(zoom))), len(pyramid) - 1)
    cos, sin = (value / (zoom * 2**level) for value in (math.cos(radians), math.sin(radians)))
    rotation = np.array([[cos, sin], [-sin, cos]])
    offset = np.array(center) / 2**level - 0.5 - rotation @ ((np.array(size[::-1]) - 1) / 2)
    affine = np.hstack([rotation, offset[:, None]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(pyramid[level], affine, size[::-1], flags=flags, borderMode=cv2.BORDER_REFLECT_101)


def recolor_photo(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """Change saturation, contrast, brightness and tint at random.

    Args:
        rng: Generator.
        image: RGB image (height, width, 3), uint8.

    Returns:
        Image (3, height, width), float32, not clipped to 0..255.
    """
    gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32)
    paint = (image.transpose(2, 0, 1) - gray) * np.float32(rng.uniform(0, 1)) + gray
    paint = (paint - 128) * np.float32(rng.uniform(0.7, 1.1)) + np.float32(128 + rng.uniform(-25, 25))
    return paint * rng.uniform(0.85, 1.0, (3, 1, 1)).astype(np.float32)
