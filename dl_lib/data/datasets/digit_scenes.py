"""Digit scenes: synthetic dataset of handwritten digits at many scales in cluttered images.

The digits are the 1,797 images (8 x 8 pixels) of `sklearn.datasets.load_digits`, the test set of the UCI dataset
"Optical Recognition of Handwritten Digits" (Alpaydin and Kaynak, 1998). They are scaled by 2x to 10x, so that dynamic
routing can choose different scales of the network for different images.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import cv2
import numpy as np

from dl_lib.data.catalog import Catalog, DatasetMeta
from dl_lib.data.datasets.generated_scenes import (
    IGNORE_VALUE,
    GeneratedScenes,
    SceneObject,
    best_position,
    label_object,
)
from dl_lib.data.datasets.scene_rendering import add_clutter, blend, render_background, sample_ink_color
from dl_lib.data.raw_dataset import RawSample
from dl_lib.utils.extras import requires_extra

__all__ = ["DIGIT_SCENES_META", "DigitScenes", "PlacedDigit", "register_digit_scenes", "render_labels"]

GLYPH_PX = 8  # side length of the images in load_digits
SPAN_PX = 8.25  # side length of a glyph's ink, which interpolation extends beyond the outermost pixels
SMALL_BIAS = 2.0  # exponent of the scale distribution: 1 is log-uniform, higher values favor small digits
MAX_TILT_DEGREES = 5.0
MAX_OVERLAP = 0.1  # maximum fraction of a digit's bounding square that overlaps other digits
MAX_OVERLAP_FROM = 2  # digits of a scene that are placed whatever their overlap
INK_THRESHOLD = 0.45  # minimum ink of a pixel that belongs to the digit
VAL_EVERY = 5  # images 4, 9, 14, ... of load_digits are used for validation, all others for training

DIGIT_SCENES_META = DatasetMeta(
    class_names=("background", *(str(digit) for digit in range(10))),
    class_colors=(
        (30, 30, 30),
        (230, 25, 75),
        (60, 180, 75),
        (255, 225, 25),
        (0, 130, 200),
        (245, 130, 48),
        (145, 30, 180),
        (70, 240, 240),
        (240, 50, 230),
        (170, 110, 40),
        (128, 128, 128),
    ),
    ignore_value=IGNORE_VALUE,
)


@dataclass(frozen=True)
class SceneKind:
    """Ranges, both ends included, from which the digits of a scene are drawn."""

    digits: tuple[int, int]  # per 96 x 96 pixels; the minimum holds for scenes of any size
    scales: tuple[float, float]  # scene pixels per glyph pixel


MIXED = SceneKind(digits=(2, 6), scales=(2, 10))
VARIED_KINDS = (
    MIXED,
    SceneKind(digits=(4, 8), scales=(2, 3.5)),  # many small digits
    SceneKind(digits=(1, 2), scales=(6, 10)),  # large digits
    SceneKind(digits=(0, 1), scales=(2, 10)),  # a single digit or none
)


@dataclass(frozen=True)
class PlacedDigit(SceneObject):
    """Digit and its geometry in a scene."""

    glyph: int  # index of the image in load_digits
    digit: int  # 0..9; its label is digit + 1
    scale: float  # scene pixels per glyph pixel
    tilt_degrees: float  # counter-clockwise
    top: int
    left: int

    @property
    def side_px(self) -> int:
        """Side length of the bounding square of the rotated glyph, including a border of one pixel."""
        return _side_px(self.scale, self.tilt_degrees)


class DigitScenes(GeneratedScenes):
    """Map-style dataset of generated scenes. A sample only depends on (seed, split, index).

    Labels are 0 for background and 1..10 for the digits 0..9. Digits are rendered from large to small, later ones on
    top, with an ignored border (255) of one pixel. Training and validation use different digit images.

    Args:
        split: "train" or "val".
        length: Number of scenes.
        size: (height, width) in pixels, each at least 48. The maximum scale of 10x requires at least 94.
        seed: Seed of all scenes.
        varied: Alternate between `VARIED_KINDS` instead of `MIXED` for all scenes.

    Raises:
        ValueError: If an argument is out of range.
        MissingExtraError: If scikit-learn is not installed.
    """

    def __init__(
        self, split: str, *, length: int, size: tuple[int, int] = (96, 96), seed: int = 0, varied: bool = False
    ) -> None:
        super().__init__(split, length=length, size=size, seed=seed)
        self.varied = varied
        self._ink, self._digits = _load_glyphs()
        is_val = np.arange(len(self._digits)) % VAL_EVERY == VAL_EVERY - 1
        self.glyphs = np.flatnonzero(is_val if split == "val" else ~is_val)

    def __getitem__(self, index: int) -> RawSample:
        rng = self._generator(index)
        placed = self._place(rng, index)
        inks = [self._render(digit) for digit in placed]
        canvas = self._render_canvas(rng, placed, inks)
        return self._sample(index, canvas=canvas, labels=render_labels(placed, inks, size=self.size))

    def layout(self, index: int) -> tuple[PlacedDigit, ...]:
        """Return the digits of a scene in rendering order."""
        return self._place(self._generator(index), index)

    def fingerprint(self) -> str:
        """Return all parameters and the versions of NumPy and OpenCV, see `dl_lib.data.raw_dataset.HasFingerprint`."""
        return f"{super().fingerprint()}, varied {self.varied}"

    def _place(self, rng: np.random.Generator, index: int) -> tuple[PlacedDigit, ...]:
        kind = VARIED_KINDS[index % len(VARIED_KINDS)] if self.varied else MIXED
        fewest, most = kind.digits
        count = max(fewest, round(rng.integers(fewest, most + 1) * math.prod(self.size) / 96**2))
        fitting = (min(self.size) - 3) / (SPAN_PX * _spread(MAX_TILT_DEGREES))
        low, high = (min(scale, fitting) for scale in kind.scales)
        scales = low * (high / low) ** (rng.uniform(0, 1, count) ** SMALL_BIAS)
        placed: list[PlacedDigit] = []
        for scale in sorted(scales.tolist(), reverse=True):  # large digits first, so that they do not cover small ones
            glyph = int(rng.choice(self.glyphs))
            tilt_degrees = rng.uniform(-MAX_TILT_DEGREES, MAX_TILT_DEGREES)
            top, left, overlap = best_position(rng, placed, side=_side_px(scale, tilt_degrees), size=self.size)
            if len(placed) < MAX_OVERLAP_FROM or overlap <= MAX_OVERLAP:
                placed.append(PlacedDigit(glyph, int(self._digits[glyph]), scale, tilt_degrees, top, left))
        return tuple(placed)

    def _render(self, placed: PlacedDigit) -> np.ndarray:
        """Return the ink of a digit, (side, side) float32 in 0..1 except for the overshoot of cubic interpolation."""
        side = placed.side_px
        affine = cv2.getRotationMatrix2D(((GLYPH_PX - 1) / 2,) * 2, placed.tilt_degrees, placed.scale)
        affine[:, 2] += (side - GLYPH_PX) / 2
        return cv2.warpAffine(self._ink[placed.glyph], affine, (side, side), flags=cv2.INTER_CUBIC)

    def _render_canvas(
        self, rng: np.random.Generator, placed: Sequence[PlacedDigit], inks: Sequence[np.ndarray]
    ) -> np.ndarray:
        canvas = render_background(rng, size=self.size)
        add_clutter(rng, canvas, count=round(rng.integers(2, 8) * math.prod(self.size) / 128**2))
        for digit, ink in zip(placed, inks, strict=True):
            rows, columns = digit.window
            window = canvas[:, rows, columns]
            color = sample_ink_color(rng)
            shade = rng.normal(0, 10, (3, 1, 1)) * np.linspace(-1, 1, digit.side_px)[:, None]
            paint = color + shade.astype(np.float32)
            alpha = np.clip((ink - INK_THRESHOLD) * digit.scale + 0.5, 0, 1)  # edge of about one pixel at any scale
            blend(window, paint=paint, alpha=alpha)
        canvas += rng.standard_normal(self.size, dtype=np.float32) * np.float32(rng.uniform(1, 9))
        return canvas


def render_labels(placed: Sequence[PlacedDigit], inks: Sequence[np.ndarray], *, size: tuple[int, int]) -> np.ndarray:
    """Render the label of a scene, uint8: later digits on top, each with an ignored border of one pixel.

    The ink of each digit is (side, side), with zeros in the outermost pixels to leave space for the border.
    """
    labels = np.zeros(size, np.uint8)
    for digit, ink in zip(placed, inks, strict=True):
        label_object(labels[digit.window], body=ink >= INK_THRESHOLD, label=digit.digit + 1)
    return labels


def register_digit_scenes(catalog: Catalog) -> None:
    """Register `digit_scenes_train` (20,000 scenes) and `digit_scenes_val` (200), 96 x 96 pixels.

    `varied_digit_scenes_train` and `varied_digit_scenes_val` are their counterparts with scenes of several kinds.
    """
    for split, length in (("train", 20000), ("val", 200)):
        scenes = partial(DigitScenes, split, length=length)
        catalog.register(f"digit_scenes_{split}", scenes, DIGIT_SCENES_META)
        catalog.register(f"varied_digit_scenes_{split}", partial(scenes, varied=True), DIGIT_SCENES_META)


def _load_glyphs() -> tuple[np.ndarray, np.ndarray]:
    """Return the ink of all glyphs, (N, 8, 8) float32 in 0..1, and their digits, (N,)."""
    with requires_extra("quickstart", feature="a dataset of digit scenes", packages="scikit-learn"):
        from sklearn.datasets import load_digits
    bundle = load_digits()
    return (bundle.images / 16).astype(np.float32), bundle.target.astype(np.int64)


def _spread(tilt_degrees: float) -> float:
    """Return the side length of the bounding square of a rotated unit square."""
    tilt = math.radians(tilt_degrees)
    return abs(math.cos(tilt)) + abs(math.sin(tilt))


def _side_px(scale: float, tilt_degrees: float) -> int:
    return math.ceil(SPAN_PX * scale * _spread(tilt_degrees)) + 2
