"""Model behind the demo: predictions for photos in memory, at any gate threshold, as JSON values."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np

from dl_lib.data.decoding import decode_image, open_with_pillow
from dl_lib.data.errors import InvalidSampleError
from dl_lib.modeling.dynamic.gate import Gate
from dl_lib.modeling.dynamic.routing import Routing
from dl_lib.prediction.pixels import WHITE, Pixels
from dl_lib.prediction.predictor import Predictor
from dl_lib.prediction.result import PredictedImage
from dl_lib.prediction.saving.encoding import FILE_FORMATS
from dl_lib.prediction.saving.kinds import OVERLAYS
from dl_lib.web.pages.embedding import css_color, data_uri
from dl_lib.web.pages.lattice import lattice_svg

__all__ = ["MAX_PIXELS", "PhotoModel"]

MAX_PIXELS = 50_000_000  # of a photo; a phone takes up to 48 million

_MAX_SECONDS_TWICE = 2  # of a first prediction, in which the preparation for a new size counts
_NAME = "the photo"  # in messages


class PhotoModel:
    """Predictor whose gate threshold changes from one photo to the next; several threads may call it.

    Args:
        predictor: Predictor, which nothing else uses.

    Attributes:
        default_threshold: Gate threshold of the trained network; None without gates.
    """

    def __init__(self, predictor: Predictor) -> None:
        self._predictor = predictor
        self._gates = [module for module in predictor.model.modules() if isinstance(module, Gate)]
        self._known_shapes: set[tuple[int, ...]] = set()
        self._lock = threading.Lock()  # one photo at a time: the gates have one threshold, and decoded photos are large
        self.default_threshold = self._gates[0].threshold if self._gates else None

    def predict(self, data: bytes, *, threshold: float | None) -> dict[str, Any]:
        """Predict a photo.

        Args:
            data: Content of the image file.
            threshold: Gate threshold, see `Gate.threshold`; None takes the default.

        Returns:
            JSON values: `overlay` (data URL), `classes` (name, color, fraction of the pixels), `gflops` and `seconds`
            of the model, `route` (SVG markup; None without gates), `unchanged` (fraction of the pixels that have the
            same class at the default threshold).

        Raises:
            DataError: If the data is not an image, or one of more than `MAX_PIXELS`, or the model refuses it.
        """
        is_default = threshold is None or threshold == self.default_threshold
        with self._lock:
            _check_size(data)
            image = decode_image(data, _NAME, upright=True, background=WHITE)
            result = self._predict(image, threshold=threshold)
            if image.shape not in self._known_shapes and result.seconds < _MAX_SECONDS_TWICE:
                result = self._predict(image, threshold=threshold)  # without the preparation for images of this size
            self._known_shapes.add(image.shape)
            default = result if is_default else self._predict(image, threshold=None)
        return {
            "overlay": data_uri(FILE_FORMATS[OVERLAYS].encode(result), media_type="image/jpeg"),
            "classes": _classes(result),
            "gflops": result.gflops.get("executed"),
            "seconds": result.seconds,
            "route": None if result.route is None else _draw_route(result.route),
            "unchanged": float(np.mean(result.classes == default.classes)),
        }

    def _predict(self, image: Pixels, *, threshold: float | None) -> PredictedImage:
        for gate in self._gates:
            assert self.default_threshold is not None
            gate.threshold = self.default_threshold if threshold is None else threshold
        return self._predictor(image)


def _check_size(data: bytes) -> None:
    """Check the size that the header states, before anything is decoded."""
    width, height = open_with_pillow(data, _NAME).size
    if width * height > MAX_PIXELS:
        raise InvalidSampleError(
            f"{_NAME} must have at most {MAX_PIXELS // 10**6} million pixels; make it smaller. "
            f"Received: {width}x{height} pixels"
        )


def _draw_route(route: Routing) -> str:
    (gates,) = route.gates_BE.tolist()
    num_open = sum(gate > 0 for gate in gates)
    label = f"Route of the photo: {num_open} of {len(gates)} edges are open"
    return lattice_svg(route.lattice, gates=gates, label=label)


def _classes(result: PredictedImage) -> list[dict[str, Any]]:
    """Return the classes of an image, the most frequent one first."""
    meta = result.meta
    counts = result.count_pixels()
    return [
        {
            "name": meta.class_names[index],
            "color": css_color(meta.class_colors[index]),
            "fraction": int(counts[index]) / result.classes.size,
        }
        for index in np.argsort(-counts, kind="stable").tolist()
        if counts[index]
    ]
