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
from dl_lib.data.datasets.scene_rendering import add_clutter, blend, render_background, sample_ink_color
from dl_lib.data.raw_dataset import RawSample

__all__ = ["DIGIT_SCENES_META", "DigitScenes", "PlacedDigit", "register_digit_scenes", "render_labels"]

GLYPH_PX = 8  # side length of the images in load_digits
SPAN_PX = 8.25  # side length of a glyph's ink, which interpolation extends beyond the outermost pixels
SMALL_BIAS = 2.0  # exponent of the scale distribution: 1 is log-uniform, higher values favor small digits
MAX_TILT_DEGREES = 5.0
MAX_OVERLAP = 0.1  # maximum fraction of a digit's bounding square that overlaps other digits
MAX_OVERLAP_FROM = 2  # digits of a scene that are placed whatever their overlap
NUM_POSITIONS = 40  # random positions per digit; the one with the smallest overlap is used
MIN_SIDE_PX = 48  # fits a digit at 4x; smaller scenes would have hardly any range of scales
INK_THRESHOLD = 0.45  # minimum ink of a pixel that belongs to the digit
SPLITS = ("train", "val")
VAL_EVERY = 5  # images 4, 9, 14, ... of load_digits are used for validation, all others for training
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
class PlacedDigit:
    """Digit and its geometry in a scene."""

    glyph: int  # index of the image in load_digits
    digit: int  # 0..9; its label is digit + 1
    scale: float  # scene pixels per glyph pixel
    tilt_degrees: float  # counter-clockwise
    top: int  # first row of the bounding square
    left: int  # first column

    @property
    def side_px(self) -> int:
        """Side length of the bounding square of the rotated glyph, including a border of one pixel."""
        return _side_px(self.scale, self.tilt_degrees)

    @property
    def window(self) -> tuple[slice, slice]:
        """Rows and columns of the bounding square."""
        return slice(self.top, self.top + self.side_px), slice(self.left, self.left + self.side_px)


class DigitScenes:
    """Map-style dataset of generated scenes. A sample only depends on (seed, split, index).

    Labels are 0 for background and 1..10 for the digits 0..9. Digits are rendered from large to small, later ones on
    top, with an ignored border (255) of one pixel. Training and validation use different digit images.

    Args:
        split: "train" or "val".
        length: Number of scenes.
        size: (height, width) in pixels, each at least 48. The maximum scale of 10x requires at least 94.
        seed: Seed of all scenes.
        varied: Draw the kind of each scene from `VARIED_KINDS` with equal probability, instead of `MIXED` for all.

    Raises:
        ValueError: If an argument is out of range.
        ImportError: If scikit-learn is not installed.
    """

    def __init__(
        self, split: str, *, length: int, size: tuple[int, int] = (96, 96), seed: int = 0, varied: bool = False
    ) -> None:
        if split not in SPLITS:
            raise ValueError(f"split must be one of {', '.join(SPLITS)}. Received: split={split!r}")
        if length < 1:
            raise ValueError(f"length must be positive. Received: length={length}")
        if min(size) < MIN_SIDE_PX:
            raise ValueError(f"size must be at least {MIN_SIDE_PX} x {MIN_SIDE_PX} pixels. Received: size={size}")
        self.split = split
        self.size = size
        self.seed = seed
        self.varied = varied
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
            "image": self._render_image(rng, placed, inks),
            "sem_seg": render_labels(placed, inks, size=self.size),
            "image_id": image_id,
            "file_name": image_id,
        }

    def file_name(self, index: int) -> str:
        """Return the image id of a scene, used as its file name, see `dl_lib.data.raw_dataset.HasFileName`."""
        return f"{self.split}_{index:06d}"

    def image_size(self, index: int) -> tuple[int, int]:
        """Return height and width of all scenes, see `dl_lib.data.raw_dataset.HasImageSize`."""
        return self.size

    def layout(self, index: int) -> tuple[PlacedDigit, ...]:
        """Return the digits of a scene in rendering order."""
        return self._place(self._generator(index))

    def fingerprint(self) -> str:
        """Return all parameters and the versions of NumPy and OpenCV, see `dl_lib.data.raw_dataset.HasFingerprint`."""
        versions = f"numpy {np.__version__}, opencv {cv2.__version__}"
        name = "varied digit scenes" if self.varied else "digit scenes"
        return f"{name}: {self.split}, {len(self)}, {self.size}, seed {self.seed}, {versions}"

    def _generator(self, index: int) -> np.random.Generator:
        if not 0 <= index < self._length:
            raise IndexError(f"index must be in 0..{self._length - 1}. Received: index={index}")
        return np.random.default_rng([self.seed, SPLITS.index(self.split), index])

    def _place(self, rng: np.random.Generator) -> tuple[PlacedDigit, ...]:
        kind = VARIED_KINDS[rng.integers(len(VARIED_KINDS))] if self.varied else MIXED
        fewest, most = kind.digits
        count = max(fewest, round(rng.integers(fewest, most + 1) * math.prod(self.size) / 96**2))
        fitting = (min(self.size) - 3) / (SPAN_PX * _spread(MAX_TILT_DEGREES))
        low, high = (min(scale, fitting) for scale in kind.scales)
        scales = low * (high / low) ** (rng.uniform(0, 1, count) ** SMALL_BIAS)
        placed: list[PlacedDigit] = []
        for scale in sorted(scales.tolist(), reverse=True):  # large digits first, so that they do not cover small ones
            glyph = int(rng.choice(self.glyphs))
            tilt_degrees = rng.uniform(-MAX_TILT_DEGREES, MAX_TILT_DEGREES)
            top, left, overlap = _best_position(rng, placed, side=_side_px(scale, tilt_degrees), size=self.size)
            if len(placed) < MAX_OVERLAP_FROM or overlap <= MAX_OVERLAP:
                placed.append(PlacedDigit(glyph, int(self._digits[glyph]), scale, tilt_degrees, top, left))
        return tuple(placed)

    def _render(self, placed: PlacedDigit) -> np.ndarray:
        """Return the ink of a digit, (side, side) float32 in 0..1 except for the overshoot of cubic interpolation."""
        side = placed.side_px
        affine = cv2.getRotationMatrix2D(((GLYPH_PX - 1) / 2,) * 2, placed.tilt_degrees, placed.scale)
        affine[:, 2] += (side - GLYPH_PX) / 2
        return cv2.warpAffine(self._ink[placed.glyph], affine, (side, side), flags=cv2.INTER_CUBIC)

    def _render_image(
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
        pixels = np.rint(canvas).clip(0, 255).astype(np.uint8)
        return np.ascontiguousarray(pixels.transpose(1, 2, 0))


def render_labels(placed: Sequence[PlacedDigit], inks: Sequence[np.ndarray], *, size: tuple[int, int]) -> np.ndarray:
    """Render the label of a scene, uint8: later digits on top, each with an ignored border of one pixel.

    The ink of each digit is (side, side), with zeros in the outermost pixels to leave space for the border.
    """
    labels = np.zeros(size, np.uint8)
    for digit, ink in zip(placed, inks, strict=True):
        body = ink >= INK_THRESHOLD
        window = labels[digit.window]
        window[cv2.dilate(body.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0] = IGNORE_VALUE
        window[body] = digit.digit + 1
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
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ImportError(
            "digit scenes use the digit images of scikit-learn, which is not installed. "
            "Install it with: pip install 'dl_lib[quickstart]'"
        ) from error
    bundle = load_digits()
    return (bundle.images / 16).astype(np.float32), bundle.target.astype(np.int64)


def _spread(tilt_degrees: float) -> float:
    """Return the side length of the bounding square of a rotated unit square."""
    tilt = math.radians(tilt_degrees)
    return abs(math.cos(tilt)) + abs(math.sin(tilt))


def _side_px(scale: float, tilt_degrees: float) -> int:
    return math.ceil(SPAN_PX * scale * _spread(tilt_degrees)) + 2


def _best_position(
    rng: np.random.Generator, placed: Sequence[PlacedDigit], *, side: int, size: tuple[int, int]
) -> tuple[int, int, float]:
    """Return (top, left) with the smallest overlap among random positions of a square, and the overlapping fraction."""
    tops = rng.integers(0, size[0] - side + 1, NUM_POSITIONS)
    lefts = rng.integers(0, size[1] - side + 1, NUM_POSITIONS)
    overlap = np.zeros(NUM_POSITIONS)
    for other in placed:
        rows = np.minimum(tops + side, other.top + other.side_px) - np.maximum(tops, other.top)
        columns = np.minimum(lefts + side, other.left + other.side_px) - np.maximum(lefts, other.left)
        overlap += np.maximum(rows, 0) * np.maximum(columns, 0)
    best = int(np.argmin(overlap))
    return int(tops[best]), int(lefts[best]), float(overlap[best]) / side**2
