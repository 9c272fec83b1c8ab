"""Records of predictions, one JSON object per line: size, costs, seconds, classes and open edges."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from dl_lib.prediction.result import PredictedImage

__all__ = ["FILE", "VideoTotals", "image_record", "json_line", "parse_line"]

FILE = "file"  # key of the name of the input


def image_record(result: PredictedImage) -> dict[str, Any]:
    """Return the record of an image or a frame, without its name.

    GFLOPs are null if none are known, and open edges without gates.
    Classes without a pixel are omitted.
    """
    height, width = result.classes.shape
    return {
        "height": height,
        "width": width,
        "gflops": {**result.gflops} or None,
        "seconds": round(result.seconds, 6),
        "class_fractions": _class_fractions(result.count_pixels(), names=result.meta.class_names),
        "open_edges": result.open_edges,
    }


class VideoTotals:
    """Totals over the frames of a video."""

    def __init__(self, *, frames_per_second: float) -> None:
        self._frames_per_second = frames_per_second
        self._size = (0, 0)
        self._class_names: tuple[str, ...] = ()
        self._frames = 0
        self._gflops: dict[str, float] = {}
        self._seconds = 0.0
        self._pixels = np.zeros(0, np.int64)

    def add(self, result: PredictedImage) -> None:
        """Add the next frame."""
        pixels = result.count_pixels()
        self._pixels = self._pixels + pixels if self._frames else pixels
        self._gflops = {name: self._gflops.get(name, 0.0) + value for name, value in result.gflops.items()}
        self._size, self._class_names = result.classes.shape, result.meta.class_names
        self._frames += 1
        self._seconds += result.seconds

    def record(self) -> dict[str, Any]:
        """Return the record of the video, without its name: mean GFLOPs of a frame, seconds of all frames."""
        height, width = self._size
        return {
            "height": height,
            "width": width,
            "frames": self._frames,
            "frames_per_second": self._frames_per_second,
            "gflops": {name: total / self._frames for name, total in self._gflops.items()} or None,
            "seconds": round(self._seconds, 6),
            "class_fractions": _class_fractions(self._pixels, names=self._class_names),
        }


def json_line(record: Mapping[str, Any]) -> bytes:
    """Return a record as a line of JSON."""
    return json.dumps(record).encode() + b"\n"


def parse_line(line: bytes) -> str | None:
    """Return the name of the input in a line of `json_line`, or None for a damaged or truncated line."""
    if not line.endswith(b"\n"):
        return None
    try:
        name = json.loads(line)[FILE]
    except (ValueError, TypeError, LookupError, RecursionError):
        return None
    return name if isinstance(name, str) else None


def _class_fractions(pixels: np.ndarray, *, names: tuple[str, ...]) -> dict[str, float]:
    total = pixels.sum()
    return {name: round(int(count) / int(total), 6) for name, count in zip(names, pixels, strict=True) if count}
