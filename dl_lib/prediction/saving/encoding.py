"""Encoded files of a prediction: label image, overlay and probabilities."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import cv2
import numpy as np

from dl_lib.data.errors import InvalidSampleError
from dl_lib.evaluation.predictions.label_files import encode_label, encode_palette_label
from dl_lib.prediction.result import PredictedImage
from dl_lib.prediction.saving.kinds import LABELS, OVERLAYS, PROBABILITIES

__all__ = ["FILE_FORMATS", "FileFormat"]

_PALETTE_SIZE = 256
_JPEG_QUALITY = 90
_MAX_JPEG_SIDE = 65_500  # pixels, of libjpeg


@dataclass(frozen=True)
class FileFormat:
    """Format with one file per image.

    Attributes:
        suffix: Suffix of the files, which is appended to the name of the input.
        encode: Function from a prediction to the content of its file.
    """

    suffix: str
    encode: Callable[[PredictedImage], bytes]


def _encode_labels(result: PredictedImage) -> bytes:
    """Encode the class indices as a PNG with the colors of the classes; gray values of 16 bits above 256 classes."""
    if len(result.meta.class_colors) > _PALETTE_SIZE:
        return encode_label(result.classes.astype(np.int32), benchmark="")
    return encode_palette_label(result.classes, colors=result.meta.class_colors)


def _encode_overlay(result: PredictedImage) -> bytes:
    if max(result.classes.shape) > _MAX_JPEG_SIDE:
        raise InvalidSampleError(
            f"{result.name} is larger than a JPEG, {_MAX_JPEG_SIDE} pixels per side; predict it without overlays "
            f"(--save labels,json). Received: height and width={result.classes.shape}"
        )
    image = cv2.cvtColor(result.overlay(), cv2.COLOR_RGB2BGR)
    done, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    assert done, "opencv encodes every image of 8 bits"
    return data.tobytes()


def _encode_probabilities(result: PredictedImage) -> bytes:
    assert result.probabilities is not None, "requested by the caller"
    file = io.BytesIO()
    np.save(file, result.probabilities.astype(np.float16))
    return file.getvalue()


FILE_FORMATS: Mapping[str, FileFormat] = {
    LABELS: FileFormat(".png", _encode_labels),
    OVERLAYS: FileFormat(".jpg", _encode_overlay),
    PROBABILITIES: FileFormat(".npy", _encode_probabilities),
}
