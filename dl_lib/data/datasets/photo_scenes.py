"""Photo scenes: dataset of photographs composed at many scales, with training and validation photographs disjoint.

A scene has a backdrop of sky, vegetation or another surface. On it are no, few large, many small, or a mixture of
objects: faces, flags, sheets of writing, and patches of other surfaces. `dl_lib.data.datasets.photo_regions` lists the
photographs with their licenses.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version

import numpy as np

from dl_lib.data.catalog import Catalog, DatasetMeta
from dl_lib.data.datasets.generated_scenes import (
    IGNORE_VALUE,
    GeneratedScenes,
    SceneObject,
    best_position,
    label_object,
)
from dl_lib.data.datasets.photo_regions import CLASS_NAMES, PHOTO_REGIONS, crop_regions
from dl_lib.data.datasets.photo_rendering import build_pyramid, recolor_photo, warp_photo
from dl_lib.data.datasets.scene_rendering import blend
from dl_lib.data.raw_dataset import RawSample

__all__ = ["PHOTO_SCENES_META", "PhotoScene", "PhotoScenes", "PlacedPhoto", "register_photo_scenes", "render_labels"]

PHOTO_SCENES_META = DatasetMeta(
    class_names=CLASS_NAMES,
    class_colors=((30, 30, 30), (0, 130, 200), (60, 180, 75), (245, 130, 48), (230, 25, 75), (255, 225, 25)),
    ignore_value=IGNORE_VALUE,
)
BACKDROPS = ("other", "sky", "vegetation")
MAX_OVERLAP = 0.15  # maximum fraction of an object's bounding square that overlaps other objects
MAX_TILT_DEGREES = 15.0
BORDER_PX = 1.5  # between an object and its bounding square


@dataclass(frozen=True)
class SceneKind:
    """Ranges, both ends included, from which the objects of a scene are drawn."""

    objects: tuple[int, int]  # per 96 x 96 pixels
    sides_px: tuple[int, int]


SCENE_KINDS = (
    SceneKind(objects=(0, 2), sides_px=(28, 56)),
    SceneKind(objects=(1, 2), sides_px=(56, 90)),  # large objects
    SceneKind(objects=(4, 8), sides_px=(24, 36)),  # many small objects
    SceneKind(objects=(2, 5), sides_px=(24, 72)),
)


@dataclass(frozen=True)
class Outline:
    """Ranges of the superellipses |x / a|^p + |y / b|^p = 1 that bound the objects of a class."""

    aspects: tuple[float, float]  # a / b
    powers: tuple[float, float]  # p: 2 is an ellipse, large values approach a rectangle


OUTLINES = {  # of the classes of objects
    "other": Outline(aspects=(0.5, 2.0), powers=(1.5, 8.0)),
    "face": Outline(aspects=(0.75, 0.8), powers=(2.0, 2.2)),
    "flag": Outline(aspects=(0.5, 0.7), powers=(8.0, 16.0)),
    "writing": Outline(aspects=(1.2, 2.0), powers=(8.0, 16.0)),
}


@dataclass(frozen=True)
class PlacedPhoto(SceneObject):
    """Object cut out of a photograph, and its geometry in a scene."""

    region: int  # index in `PHOTO_REGIONS` of the split
    label: int
    aspect: float
    power: float
    tilt_degrees: float  # clockwise
    side: int
    top: int
    left: int

    @property
    def side_px(self) -> int:
        """Side length of the bounding square, including a border of 1.5 pixels."""
        return self.side

    @property
    def half_axes(self) -> tuple[float, float]:
        """Horizontal and vertical half axis of the superellipse before its rotation, in pixels."""
        tilt = math.radians(self.tilt_degrees)
        longest = (self.side / 2 - BORDER_PX) / (math.cos(tilt) + abs(math.sin(tilt)))
        return longest * min(self.aspect, 1), longest / max(self.aspect, 1)

    def opacity(self) -> np.ndarray:
        """Return the opacity of the object, (side, side) float32 in 0..1; its edge is at most about one pixel wide."""
        tilt, (a, b) = math.radians(self.tilt_degrees), self.half_axes
        offsets = np.arange(self.side, dtype=np.float32) - (self.side - 1) / 2
        x = np.abs(offsets * math.cos(tilt) + offsets[:, None] * math.sin(tilt)) / a
        y = np.abs(offsets[:, None] * math.cos(tilt) - offsets * math.sin(tilt)) / b
        radius = (x**self.power + y**self.power) ** (1 / self.power)
        return np.clip((1 - radius) * max(a, b) + 0.5, 0, 1).astype(np.float32)


@dataclass(frozen=True)
class PhotoScene:
    """Content of a scene.

    Attributes:
        backdrop: Index of the backdrop's region in `PHOTO_REGIONS` of the split.
        objects: Objects in rendering order.
    """

    backdrop: int
    objects: tuple[PlacedPhoto, ...]


class PhotoScenes(GeneratedScenes):
    """Map-style dataset of generated scenes. A sample only depends on (seed, split, index).

    Labels are the classes of `PHOTO_SCENES_META`. Objects are rendered from large to small, later ones on top, with an
    ignored border (255) of one pixel. Contrast, brightness and color saturation are random, so that gray photographs
    do not give their class away.

    Args:
        split: "train" or "val".
        length: Number of scenes.
        size: (height, width) in pixels, each at least 48; below 92, the largest objects are scaled down.
        seed: Seed of all scenes.

    Raises:
        ValueError: If an argument is out of range.
        MissingExtraError: If scikit-image or scikit-learn is not installed.
    """

    def __init__(self, split: str, *, length: int, size: tuple[int, int] = (96, 96), seed: int = 0) -> None:
        super().__init__(split, length=length, size=size, seed=seed)
        self.regions = PHOTO_REGIONS[split]
        self._pyramids = [build_pyramid(crop) for crop in crop_regions(split)]

    def __getitem__(self, index: int) -> RawSample:
        rng = self._generator(index)
        scene = self._compose(rng, index)
        height, width = self.size
        canvas = self._paint(rng, scene.backdrop, size=self.size, half_axes=(width / 2, height / 2))
        for item in scene.objects:
            rows, columns = item.window
            tilt = math.radians(item.tilt_degrees)
            paint = self._paint(rng, item.region, size=(item.side,) * 2, half_axes=item.half_axes, radians=tilt)
            blend(canvas[:, rows, columns], paint=paint, alpha=item.opacity())
        canvas += rng.standard_normal(self.size, dtype=np.float32) * np.float32(rng.uniform(1, 6))
        background = CLASS_NAMES.index(self.regions[scene.backdrop].class_name)
        labels = render_labels(scene.objects, background=background, size=self.size)
        return self._sample(index, canvas=canvas, labels=labels)

    def layout(self, index: int) -> PhotoScene:
        """Return the backdrop and the objects of a scene."""
        return self._compose(self._generator(index), index)

    def fingerprint(self) -> str:
        """Return all parameters and the versions of the packages that render or contain the photographs."""
        packages = ("scikit-image", "scikit-learn", "matplotlib", "pillow")
        return ", ".join([super().fingerprint(), *(f"{package} {version(package)}" for package in packages)])

    def _compose(self, rng: np.random.Generator, index: int) -> PhotoScene:
        kind = SCENE_KINDS[index % len(SCENE_KINDS)]
        backdrop = str(rng.choice(BACKDROPS))
        count = round(rng.integers(*kind.objects, endpoint=True) * math.prod(self.size) / 96**2)
        low, high = (min(side, min(self.size) - 2) for side in kind.sides_px)
        classes = [name for name in OUTLINES if name != backdrop]
        placed: list[PlacedPhoto] = []
        for side in sorted(_log_uniform(rng, low, high, count).tolist(), reverse=True):
            item = self._place(rng, placed, class_name=str(rng.choice(classes)), side=round(side))
            if item is not None:
                placed.append(item)
        return PhotoScene(self._sample_region(rng, backdrop), tuple(placed))

    def _place(
        self, rng: np.random.Generator, placed: Sequence[PlacedPhoto], *, class_name: str, side: int
    ) -> PlacedPhoto | None:
        """Return an object at a random position, or None if it would overlap others too much."""
        outline = OUTLINES[class_name]
        aspect = float(_log_uniform(rng, *outline.aspects))
        power, tilt_degrees = rng.uniform(*outline.powers), rng.uniform(-MAX_TILT_DEGREES, MAX_TILT_DEGREES)
        region, label = self._sample_region(rng, class_name), CLASS_NAMES.index(class_name)
        top, left, overlap = best_position(rng, placed, side=side, size=self.size)
        if overlap > MAX_OVERLAP:
            return None
        return PlacedPhoto(region, label, aspect, power, tilt_degrees, side, top, left)

    def _sample_region(self, rng: np.random.Generator, class_name: str) -> int:
        return int(rng.choice([i for i, region in enumerate(self.regions) if region.class_name == class_name]))

    def _paint(
        self,
        rng: np.random.Generator,
        region: int,
        *,
        size: tuple[int, int],
        half_axes: tuple[float, float],
        radians: float = 0.0,
    ) -> np.ndarray:
        """Return a random part of a region with random colors, (3, height, width) float32.

        Args:
            rng: Source of random numbers.
            region: Index of the region.
            size: (height, width) in pixels.
            half_axes: Half of the width and height that the region has to cover, in pixels.
            radians: Rotation, clockwise.
        """
        pyramid = self._pyramids[region]
        height, width = pyramid[0].shape[:2]
        covering = max(2 * half_axes[0] / width, 2 * half_axes[1] / height)
        zoom = float(_log_uniform(rng, *(max(limit, covering) for limit in self.regions[region].zoom)))
        x = half_axes[0] / zoom + rng.uniform(0, 1) * (width - 2 * half_axes[0] / zoom)
        y = half_axes[1] / zoom + rng.uniform(0, 1) * (height - 2 * half_axes[1] / zoom)
        return recolor_photo(rng, warp_photo(pyramid, center=(x, y), zoom=zoom, radians=radians, size=size))


def render_labels(objects: Sequence[PlacedPhoto], *, background: int, size: tuple[int, int]) -> np.ndarray:
    """Render the label of a scene, uint8: later objects on top, each with an ignored border of one pixel."""
    labels = np.full(size, background, np.uint8)
    for item in objects:
        label_object(labels[item.window], body=item.opacity() >= 0.5, label=item.label)
    return labels


def register_photo_scenes(catalog: Catalog) -> None:
    """Register `photo_scenes_train` (20,000 scenes) and `photo_scenes_val` (200), 96 x 96 pixels."""
    for split, length in (("train", 20000), ("val", 200)):
        catalog.register(f"photo_scenes_{split}", partial(PhotoScenes, split, length=length), PHOTO_SCENES_META)


def _log_uniform(rng: np.random.Generator, low: float, high: float, size: int | None = None) -> np.ndarray:
    return np.exp(rng.uniform(math.log(low), math.log(high), size))
