"""Reduced images and class indices, and their encodings as JPEG and PNG."""

from __future__ import annotations

import io

import cv2
import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from dl_lib.evaluation.scores.report_data import SAMPLE_SIDE_PX

__all__ = [
    "MAX_CLASSES",
    "ClassIndices",
    "decode_class_indices",
    "encode_class_indices",
    "encode_jpeg",
    "ignored_index",
    "reduce_class_indices",
    "reduce_image",
    "reduced_size",
]

MAX_CLASSES = np.iinfo(np.uint16).max  # of class indices; the largest value is that of ignored pixels
ClassIndices = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]

_JPEG_QUALITY = 85


def reduced_size(classes: Tensor, *, longest_side: int) -> tuple[int, int]:
    """Return height and width of class indices (H, W) reduced to sides of at most `longest_side`; never larger ones."""
    scale = min(1.0, longest_side / max(classes.shape))
    height, width = (max(1, round(scale * side)) for side in classes.shape)
    return height, width


def reduce_image(image: npt.NDArray[np.uint8], *, size: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """Resize an image (H, W, 3) to (height, width) by averaging the area of each new pixel."""
    height, width = size
    return np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA), np.uint8)


def reduce_class_indices(indices: Tensor, *, size: tuple[int, int]) -> npt.NDArray[np.integer]:
    """Resize class indices (H, W), a tensor on any device, to (height, width) with nearest neighbours."""
    if size == indices.shape:
        return indices.cpu().numpy()
    rows, columns = (
        torch.arange(new, device=indices.device) * old // new for new, old in zip(size, indices.shape, strict=True)
    )
    return indices.index_select(0, rows).index_select(1, columns).cpu().numpy()


def ignored_index(num_classes: int) -> int:
    """Return the value of ignored pixels among class indices: the largest one of their type."""
    return int(np.iinfo(_index_type(num_classes)).max)


def encode_jpeg(image: npt.NDArray[np.uint8]) -> bytes:
    """Encode an image (H, W, 3), BGR, as JPEG."""
    return _encode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])


def encode_class_indices(indices: npt.NDArray[np.integer], *, num_classes: int) -> bytes:
    """Encode class indices (H, W), or `ignored_index`, as grayscale PNG of 8 bits, or 16 bits from 256 classes on."""
    return _encode(".png", indices.astype(_index_type(num_classes)), [])


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


def _index_type(num_classes: int) -> type[np.uint8] | type[np.uint16]:
    """Return the smallest type that holds all class indices and another value, that of ignored pixels."""
    return np.uint8 if num_classes <= np.iinfo(np.uint8).max else np.uint16


def _encode(suffix: str, pixels: npt.NDArray[np.integer], options: list[int]) -> bytes:
    _, encoded = cv2.imencode(suffix, pixels, options)
    return encoded.tobytes()
