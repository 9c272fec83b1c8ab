"""Base of datasets of generated scenes, and placement of objects in a scene."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from dl_lib.data.raw_dataset import RawSample

__all__ = ["IGNORE_VALUE", "SPLITS", "GeneratedScenes", "SceneObject", "best_position", "label_object"]

SPLITS = ("train", "val")
MIN_SIDE_PX = 48  # smaller scenes would have hardly any range of scales
NUM_POSITIONS = 40  # random positions per object; the one with the smallest overlap is used
IGNORE_VALUE = 255


class SceneObject:
    """Object of a scene and its bounding square.

    Attributes:
        top: First row of the bounding square.
        left: First column.
    """

    top: int
    left: int

    @property
    def side_px(self) -> int:
        """Side length of the bounding square, including a border of at least one pixel for ignored labels."""
        raise NotImplementedError

    @property
    def window(self) -> tuple[slice, slice]:
        """Rows and columns of the bounding square."""
        return slice(self.top, self.top + self.side_px), slice(self.left, self.left + self.side_px)


class GeneratedScenes:
    """Map-style dataset of generated scenes. A sample only depends on (seed, split, index).

    Args:
        split: "train" or "val".
        length: Number of scenes.
        size: (height, width) in pixels, each at least 48.
        seed: Seed of all scenes.

    Raises:
        ValueError: If an argument is out of range.
    """

    def __init__(self, split: str, *, length: int, size: tuple[int, int] = (96, 96), seed: int = 0) -> None:
        if split not in SPLITS:
            raise ValueError(f"split must be one of {', '.join(SPLITS)}. Received: split={split!r}")
        if length < 1:
            raise ValueError(f"length must be positive. Received: length={length}")
        if min(size) < MIN_SIDE_PX:
            raise ValueError(f"size must be at least {MIN_SIDE_PX} x {MIN_SIDE_PX} pixels. Received: size={size}")
        self.split = split
        self.size = size
        self.seed = seed
        self._length = length

    def __len__(self) -> int:
        return self._length

    def file_name(self, index: int) -> str:
        """Return the image id of a scene, used as its file name, see `dl_lib.data.raw_dataset.HasFileName`."""
        return f"{self.split}_{index:06d}"

    def image_size(self, index: int) -> tuple[int, int]:
        """Return height and width of all scenes, see `dl_lib.data.raw_dataset.HasImageSize`."""
        return self.size

    def fingerprint(self) -> str:
        """Return all parameters and the versions of NumPy and OpenCV, see `dl_lib.data.raw_dataset.HasFingerprint`."""
        versions = f"numpy {np.__version__}, opencv {cv2.__version__}"
        return f"{type(self).__name__}: {self.split}, {len(self)}, {self.size}, seed {self.seed}, {versions}"

    def _generator(self, index: int) -> np.random.Generator:
        if not 0 <= index < self._length:
            raise IndexError(f"index must be in 0..{self._length - 1}. Received: index={index}")
        return np.random.default_rng([self.seed, SPLITS.index(self.split), index])

    def _sample(self, index: int, *, canvas: np.ndarray, labels: np.ndarray) -> RawSample:
        """Return the sample of a canvas, (3, H, W) float32 RGB, and its labels, (H, W)."""
        pixels = np.rint(canvas).clip(0, 255).astype(np.uint8)
        image_id = self.file_name(index)
        return {
            "image": np.ascontiguousarray(pixels.transpose(1, 2, 0)),
            "sem_seg": labels,
            "image_id": image_id,
            "file_name": image_id,
        }


def best_position(
    rng: np.random.Generator, placed: Sequence[SceneObject], *, side: int, size: tuple[int, int]
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


def label_object(labels: np.ndarray, *, body: np.ndarray, label: int) -> None:
    """Label the pixels of an object in place, and a border of one pixel around them as ignored.

    Args:
        labels: (side, side) uint8, the bounding square of the object.
        body: (side, side) bool, False in the outermost pixels to leave space for the border.
        label: Class id of the object.
    """
    labels[cv2.dilate(body.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0] = IGNORE_VALUE
    labels[body] = label
