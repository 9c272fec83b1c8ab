"""Result of a prediction for one image."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from dl_lib.data.catalog import DatasetMeta
from dl_lib.modeling.dynamic.routing import Routing
from dl_lib.visualization.overlay import overlay_labels

__all__ = ["PredictedImage"]


@dataclass(frozen=True, eq=False)
class PredictedImage:
    """Prediction for one image.

    Attributes:
        name: File of the image, with the number of the frame for a video; its position in the input for others.
        image: The image (H, W, 3), uint8 RGB.
        classes: Class indices (H, W); uint8 if they fit, else int32.
        probabilities: Softmax of the logits (classes, H, W), float32; None unless requested.
        route: Gate values and reached cells of this image; None for networks without gates.
        gflops: GFLOPs of all passes by name: `expected`, `real`, `real_complete` and `executed`, see `Costs`. Exported
            files report `real` only, or none.
        seconds: Wall time of the model.
        meta: Classes and their colors.
    """

    name: str
    image: npt.NDArray[np.uint8] = field(repr=False)
    classes: npt.NDArray[np.integer] = field(repr=False)
    probabilities: npt.NDArray[np.float32] | None = field(repr=False)
    route: Routing | None = field(repr=False)
    gflops: Mapping[str, float]
    seconds: float
    meta: DatasetMeta = field(repr=False)

    @property
    def open_edges(self) -> tuple[str, ...] | None:
        """Names of the edges that this image executes, such as `layer1_stride8.up`; None for networks without gates."""
        if self.route is None:
            return None
        (is_open,) = self.route.active_BE.tolist()
        return tuple(str(edge) for edge, opened in zip(self.route.lattice.edges, is_open, strict=True) if opened)

    def count_pixels(self) -> npt.NDArray[np.int64]:
        """Return the number of pixels of each class (classes,)."""
        return np.bincount(self.classes.ravel(), minlength=len(self.meta.class_names))

    def overlay(self) -> npt.NDArray[np.uint8]:
        """Return the image (H, W, 3) with each pixel tinted in the color of its class, uint8 RGB."""
        return overlay_labels(self.image, self.classes, meta=self.meta)
