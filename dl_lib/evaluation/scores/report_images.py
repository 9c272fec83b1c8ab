"""Images of an evaluation for its report: thumbnails, the worst and the most expensive images."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

__all__ = [
    "MAX_SAMPLES",
    "MAX_THUMBNAILS",
    "SAMPLE_SIDE_PX",
    "THUMBNAIL_SIDE_PX",
    "ClassIndices",
    "ReportImages",
    "SampleImage",
    "decode_class_indices",
    "encode_class_indices",
    "encode_jpeg",
    "ignored_index",
]

MAX_THUMBNAILS = 1000
MAX_SAMPLES = 10  # worst images, and as many most expensive ones
THUMBNAIL_SIDE_PX = 128  # longest side
SAMPLE_SIDE_PX = 384  # longest side

ClassIndices = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]

_JPEG_QUALITY = 85


@dataclass(frozen=True, eq=False)
class SampleImage:
    """Image with its prediction and its label, all of one size with a longest side of at most `SAMPLE_SIDE_PX`.

    Attributes:
        image_id: Identifier, unique within the dataset.
        image: JPEG, RGB.
        prediction: Grayscale PNG of 8 or 16 bits with class indices; see `decode_class_indices`.
        label: PNG like the prediction, ignored pixels have the largest value of its type; None without ground truth.
    """

    image_id: str
    image: bytes
    prediction: bytes
    label: bytes | None


@dataclass(frozen=True, eq=False)
class ReportImages:
    """Images of an evaluation.

    Attributes:
        thumbnails: JPEGs by image id, longest side at most `THUMBNAIL_SIDE_PX`, of at most `MAX_THUMBNAILS` images that
            are spread evenly over the dataset.
        worst: Images with the lowest mIoU, lowest first; empty without ground truth.
        most_expensive: Images with the highest real cost, highest first.
    """

    thumbnails: Mapping[str, bytes]
    worst: tuple[SampleImage, ...]
    most_expensive: tuple[SampleImage, ...]


def ignored_index(num_classes: int) -> int:
    """Return the value of ignored pixels, the largest one of the smallest type that also holds all class indices."""
    return int(np.iinfo(np.uint8 if num_classes <= np.iinfo(np.uint8).max else np.uint16).max)


def encode_jpeg(image: npt.NDArray[np.uint8]) -> bytes:
    """Encode an image (H, W, 3), BGR, as JPEG."""
    return _encode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])


def encode_class_indices(indices: ClassIndices) -> bytes:
    """Encode class indices (H, W) as grayscale PNG with the bits of their type."""
    return _encode(".png", indices, [])


def decode_class_indices(png: bytes) -> ClassIndices:
    """Decode a PNG of `encode_class_indices`.

    Raises:
        ValueError: If it is not a grayscale PNG of at most `SAMPLE_SIDE_PX`.
        OSError, SyntaxError: Of Pillow, if it is damaged.
    """
    with Image.open(io.BytesIO(png), formats=["PNG"]) as image:
        types = {"L": np.uint8, "I;16": np.uint16}
        if image.mode not in types or max(image.size) > SAMPLE_SIDE_PX:
            raise ValueError(f"PNG has mode {image.mode} and size {image.size}")
        return np.asarray(image, types[image.mode])


def _encode(suffix: str, pixels: npt.NDArray[np.integer], options: list[int]) -> bytes:
    _, encoded = cv2.imencode(suffix, pixels, options)
    return encoded.tobytes()
