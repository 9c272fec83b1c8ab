"""Backgrounds, clutter and blending of synthetic scenes. Canvases are (3, H, W) float32, RGB, 0..255.

Channels come first because many operations broadcast one value per pixel, and NumPy is slow if the last axis has size
3.
"""

from __future__ import annotations

import cv2
import numpy as np

__all__ = ["add_clutter", "blend", "render_background", "sample_ink_color"]


def render_background(rng: np.random.Generator, *, size: tuple[int, int]) -> np.ndarray:
    """Render a random background, roughly within 0..255: a linear color gradient, smooth blotches and fine stripes."""
    height, width = size
    cells = int(rng.integers(3, 14))
    blotches = [cv2.resize(_normals(rng, (cells, cells)), (width, height)) for _ in range(3)]
    canvas = np.stack(blotches) * np.float32(rng.uniform(4, 22)) + _sample_color(rng, low=20, high=130)
    canvas += _unit_ramp(rng, size=size) * (25 * _normals(rng, (3, 1, 1)))
    radians = _unit_ramp(rng, size=size) * np.float32(np.pi * max(size) / rng.uniform(5, 30))  # a period of 5 to 30 px
    canvas += np.sin(radians) * np.float32(rng.uniform(0, 10))
    return canvas


def add_clutter(rng: np.random.Generator, canvas: np.ndarray, *, count: int) -> None:
    """Render random lines, ellipses, noise patches and gradient patches onto a canvas in place."""
    size = canvas.shape[1:]
    for _ in range(count):
        kind = rng.integers(4)
        opacity = rng.uniform(0.3, 0.9)
        if kind == 0:
            mask = _line(rng, size=size)
        elif kind == 1:
            mask = _ellipse(rng, size=size)
        else:
            mask = _patch(rng, size=size)
        left, top, box_width, box_height = cv2.boundingRect(mask)
        if box_width == 0:
            continue  # outside of the canvas
        rows, columns = slice(top, top + box_height), slice(left, left + box_width)
        paint = _sample_color(rng, low=0, high=200)
        if kind == 2:
            paint = paint + 30 * _normals(rng, (box_height, box_width))
        elif kind == 3:
            paint = paint + _unit_ramp(rng, size=(box_height, box_width)) * (60 * _normals(rng, (3, 1, 1)))
        alpha = mask[rows, columns] * np.float32(opacity / 255)
        blend(canvas[:, rows, columns], paint=paint, alpha=alpha)


def blend(canvas: np.ndarray, *, paint: np.ndarray, alpha: np.ndarray) -> None:
    """Alpha-blend paint, broadcastable to the canvas, in place; alpha is (H, W) float32, from 0 (transparent) to 1."""
    difference = paint - canvas
    difference *= alpha
    canvas += difference


def sample_ink_color(rng: np.random.Generator) -> np.ndarray:
    """Sample a light color for a digit, (3, 1, 1) float32; backgrounds are darker."""
    return _sample_color(rng, low=170, high=255)


def _sample_color(rng: np.random.Generator, *, low: float, high: float) -> np.ndarray:
    return rng.uniform(low, high, (3, 1, 1)).astype(np.float32)


def _normals(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return rng.standard_normal(shape, dtype=np.float32)


def _unit_ramp(rng: np.random.Generator, *, size: tuple[int, int]) -> np.ndarray:
    """Return a linear ramp in a random direction, (H, W) float32, from -1 to 1 if the direction is along an axis."""
    angle = rng.uniform(0, 2 * np.pi)
    rows = np.linspace(-1, 1, size[0], dtype=np.float32) * np.float32(np.sin(angle))
    columns = np.linspace(-1, 1, size[1], dtype=np.float32) * np.float32(np.cos(angle))
    return rows[:, None] + columns[None, :]


def _line(rng: np.random.Generator, *, size: tuple[int, int]) -> np.ndarray:
    mask = np.zeros(size, np.uint8)
    start, end = (tuple(int(v) for v in rng.uniform(-0.1, 1.1, 2) * size[::-1]) for _ in range(2))
    return cv2.line(mask, start, end, 255, thickness=int(rng.integers(1, 6)), lineType=cv2.LINE_AA)


def _ellipse(rng: np.random.Generator, *, size: tuple[int, int]) -> np.ndarray:
    mask = np.zeros(size, np.uint8)
    center = tuple(int(v) for v in rng.uniform(0, 1, 2) * size[::-1])
    axes = tuple(int(v) for v in np.exp(rng.uniform(np.log(3), np.log(24), 2)))
    return cv2.ellipse(mask, center, axes, rng.uniform(0, 180), 0, 360, 255, thickness=-1, lineType=cv2.LINE_AA)


def _patch(rng: np.random.Generator, *, size: tuple[int, int]) -> np.ndarray:
    mask = np.zeros(size, np.uint8)
    center = rng.uniform(0, 1, 2) * size[::-1]
    sides = np.exp(rng.uniform(np.log(10), np.log(56), 2))
    corners = cv2.boxPoints((center.tolist(), sides.tolist(), rng.uniform(0, 90)))
    return cv2.fillConvexPoly(mask, corners.astype(np.int32), 255, lineType=cv2.LINE_AA)
