"""Digit scenes: handwritten digits of many sizes in cluttered pictures, made from what scikit-learn ships.

The digits are the 1,797 images (8 x 8 pixels) of `sklearn.datasets.load_digits`, the test part of the UCI set
"Optical Recognition of Handwritten Digits" (Alpaydin and Kaynak, 1998). The range of their sizes, 2x to 10x, is
the point: it is what routes through a network of several scales can differ by.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import cv2
import numpy as np

from dl_lib.data.catalog import Catalog, DatasetMeta
from dl_lib.data.datasets.scene_rendering import add_clutter, blend, draw_background, draw_ink_color
from dl_lib.data.raw_dataset import RawSample

__all__ = ["DIGIT_SCENES_META", "DigitScenes", "PlacedDigit", "register_digit_scenes", "render_labels"]

GLYPH_PX = 8  # side of the images in load_digits
SPAN_PX = 8.25  # what a glyph's ink can span: interpolation carries it a little beyond the outermost pixels
SCALE_RANGE = (2.0, 10.0)
SMALL_BIAS = 2.0  # 1: every scale as often on a logarithmic axis; above: small digits more often than large ones
MAX_TILT_DEGREES = 5.0
MIN_DIGITS = 2  # in a scene
MAX_COVERED = 0.1  # share of a further digit's square that may lie over others: overlaps, but no heaps
PLACES_TRIED = 40
MIN_SIDE_PX = 48  # a scene must hold a digit at 4x, or there is no range of scales
INK_THRESHOLD = 0.45  # share of ink from which on a pixel belongs to the digit
SPLITS = ("train", "val")
VAL_EVERY = 5  # digit images 4, 9, 14, ... of load_digits are for validation, all others for training
IGNORE_VALUE = 255

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
class PlacedDigit:
    """Where and how one digit stands in a scene.

    Args:
        glyph: its position in load_digits.
        digit: 0..9, what it shows; its label is one more.
        scale: pixels of the scene for one pixel of the glyph.
        tilt_degrees: rotation, counter-clockwise.
        top: first row of the square that holds it.
        left: first column of this square.
    """

    glyph: int
    digit: int
    scale: float
    tilt_degrees: float
    top: int
    left: int

    @property
    def side_px(self) -> int:
        """Side of the square that holds the glyph as it is rotated, with a pixel round it for the border."""
        return _side_px(self.scale, self.tilt_degrees)

    @property
    def window(self) -> tuple[slice, slice]:
        return slice(self.top, self.top + self.side_px), slice(self.left, self.left + self.side_px)


class DigitScenes:
    """A map-style data set of generated scenes; a sample depends on (seed, split, index) and nothing else.

    Labels are 0 for background and 1..10 for the digits 0..9. Digits are painted from large to small, each over
    what was there before; one pixel round each is labelled 255. Training and validation use different digit images.

    Args:
        split: "train" or "val".
        length: number of scenes.
        size: (height, width) in pixels, each at least 48. Scales reach 10x from a side of 94 on.
        seed: of all scenes.

    Raises:
        ValueError: if an argument is out of its range.
        ImportError: if scikit-learn is not installed.
    """

    def __init__(self, split: str, *, length: int, size: tuple[int, int] = (96, 96), seed: int = 0) -> None:
        if split not in SPLITS:
            raise ValueError(f"split must be one of {', '.join(SPLITS)}. Received: split={split!r}")
        if length < 1:
            raise ValueError(f"a data set needs at least one scene. Received: length={length}")
        if min(size) < MIN_SIDE_PX:
            raise ValueError(f"both sides of a scene must have at least {MIN_SIDE_PX} pixels. Received: size={size}")
        self.split = split
        self.size = size
        self.seed = seed
        self._length = length
        self._ink, self._digits = _load_glyphs()
        is_val = np.arange(len(self._digits)) % VAL_EVERY == VAL_EVERY - 1
        self.glyphs = np.flatnonzero(is_val if split == "val" else ~is_val)

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> RawSample:
        rng = self._generator(index)
        placed = self._place(rng)
        inks = [self._render(digit) for digit in placed]
        image_id = self.file_name(index)
        return {
            "image": self._paint_image(rng, placed, inks),
            "sem_seg": render_labels(placed, inks, size=self.size),
            "image_id": image_id,
            "file_name": image_id,
        }

    def file_name(self, index: int) -> str:
        """See `dl_lib.data.raw_dataset.HasFileName`; scenes have none, and repeat their image_id."""
        return f"{self.split}_{index:06d}"

    def layout(self, index: int) -> tuple[PlacedDigit, ...]:
        """The digits of a scene in the order in which they are painted."""
        return self._place(self._generator(index))

    def fingerprint(self) -> str:
        """See `dl_lib.data.raw_dataset.HasFingerprint`: numpy draws the scenes, opencv paints them."""
        versions = f"numpy {np.__version__}, opencv {cv2.__version__}"
        return f"digit scenes: {self.split}, {len(self)}, {self.size}, seed {self.seed}, {versions}"

    def _generator(self, index: int) -> np.random.Generator:
        if not 0 <= index < self._length:
            raise IndexError(f"the data set has scenes 0..{self._length - 1}. Received: index={index}")
        return np.random.default_rng([self.seed, SPLITS.index(self.split), index])

    def _place(self, rng: np.random.Generator) -> tuple[PlacedDigit, ...]:
        count = max(MIN_DIGITS, round(rng.integers(2, 7) * math.prod(self.size) / 96**2))
        low, high = SCALE_RANGE
        high = min(high, (min(self.size) - 3) / (SPAN_PX * _spread(MAX_TILT_DEGREES)))
        scales = low * (high / low) ** (rng.uniform(0, 1, count) ** SMALL_BIAS)
        placed: list[PlacedDigit] = []
        for scale in sorted(scales.tolist(), reverse=True):  # large first, or small ones would vanish
            glyph = int(rng.choice(self.glyphs))
            tilt_degrees = rng.uniform(-MAX_TILT_DEGREES, MAX_TILT_DEGREES)
            top, left, covered = _freest_place(rng, placed, side=_side_px(scale, tilt_degrees), size=self.size)
            if len(placed) < MIN_DIGITS or covered <= MAX_COVERED:
                placed.append(PlacedDigit(glyph, int(self._digits[glyph]), scale, tilt_degrees, top, left))
        return tuple(placed)

    def _render(self, placed: PlacedDigit) -> np.ndarray:
        """(side, side) float32: share of ink of each pixel, 0..1 apart from the overshoot of cubic interpolation."""
        side = placed.side_px
        affine = cv2.getRotationMatrix2D(((GLYPH_PX - 1) / 2,) * 2, placed.tilt_degrees, placed.scale)
        affine[:, 2] += (side - GLYPH_PX) / 2
        return cv2.warpAffine(self._ink[placed.glyph], affine, (side, side), flags=cv2.INTER_CUBIC)

    def _paint_image(
        self, rng: np.random.Generator, placed: Sequence[PlacedDigit], inks: Sequence[np.ndarray]
    ) -> np.ndarray:
        canvas = draw_background(rng, size=self.size)
        add_clutter(rng, canvas, count=round(rng.integers(2, 8) * math.prod(self.size) / 128**2))
        for digit, ink in zip(placed, inks, strict=True):
            rows, columns = digit.window
            window = canvas[:, rows, columns]
            color = draw_ink_color(rng)
            shade = rng.normal(0, 10, (3, 1, 1)) * np.linspace(-1, 1, digit.side_px)[:, None]
            paint = color + shade.astype(np.float32)
            alpha = np.clip((ink - INK_THRESHOLD) * digit.scale + 0.5, 0, 1)  # an edge of about one pixel at any scale
            blend(window, paint=paint, alpha=alpha)
        canvas += rng.standard_normal(self.size, dtype=np.float32) * np.float32(rng.uniform(1, 9))
        pixels = np.rint(canvas).clip(0, 255).astype(np.uint8)
        return np.ascontiguousarray(pixels.transpose(1, 2, 0))


def render_labels(placed: Sequence[PlacedDigit], inks: Sequence[np.ndarray], *, size: tuple[int, int]) -> np.ndarray:
    """Labels of a scene: later digits over earlier ones, each with an ignored border of one pixel.

    Args:
        placed: the digits in paint order.
        inks: (side, side) share of ink for each of them, none in the outermost pixels: the border needs them.
        size: (height, width) of the scene.

    Returns:
        (height, width) uint8.
    """
    labels = np.zeros(size, np.uint8)
    for digit, ink in zip(placed, inks, strict=True):
        body = ink >= INK_THRESHOLD
        window = labels[digit.window]
        window[cv2.dilate(body.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0] = IGNORE_VALUE
        window[body] = digit.digit + 1
    return labels


def register_digit_scenes(catalog: Catalog) -> None:
    """Register `digit_scenes_train` (20,000 scenes) and `digit_scenes_val` (200), 96 x 96 pixels."""
    for split, length in (("train", 20000), ("val", 200)):
        catalog.register(f"digit_scenes_{split}", partial(DigitScenes, split, length=length), DIGIT_SCENES_META)


def _load_glyphs() -> tuple[np.ndarray, np.ndarray]:
    """(N, 8, 8) float32 share of ink, and (N,) the digits shown."""
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ImportError(
            "digit scenes are made from the digits that ship with scikit-learn, which is not installed. "
            "Install it with: pip install -e .[quickstart]"
        ) from error
    bundle = load_digits()
    return (bundle.images / 16).astype(np.float32), bundle.target.astype(np.int64)


def _spread(tilt_degrees: float) -> float:
    """Side of the upright square round a tilted one, as a multiple of its side."""
    tilt = math.radians(tilt_degrees)
    return abs(math.cos(tilt)) + abs(math.sin(tilt))


def _side_px(scale: float, tilt_degrees: float) -> int:
    return math.ceil(SPAN_PX * scale * _spread(tilt_degrees)) + 2


def _freest_place(
    rng: np.random.Generator, placed: Sequence[PlacedDigit], *, side: int, size: tuple[int, int]
) -> tuple[int, int, float]:
    """Of the places (top, left) drawn for a square, that which covers least of what is there, and the share covered."""
    tops = rng.integers(0, size[0] - side + 1, PLACES_TRIED)
    lefts = rng.integers(0, size[1] - side + 1, PLACES_TRIED)
    covered = np.zeros(PLACES_TRIED)
    for other in placed:
        rows = np.minimum(tops + side, other.top + other.side_px) - np.maximum(tops, other.top)
        columns = np.minimum(lefts + side, other.left + other.side_px) - np.maximum(lefts, other.left)
        covered += np.maximum(rows, 0) * np.maximum(columns, 0)
    best = int(np.argmin(covered))
    return int(tops[best]), int(lefts[best]), float(covered[best]) / side**2
