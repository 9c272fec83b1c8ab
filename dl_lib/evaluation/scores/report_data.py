"""Data of an evaluation for its report page: sample images, thumbnails, counts of each image, calibration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dl_lib.evaluation.scores.calibration import CalibrationCounts

__all__ = ["MAX_SAMPLES", "MAX_THUMBNAILS", "SAMPLE_SIDE_PX", "THUMBNAIL_SIDE_PX", "ReportData", "SampleImage"]

MAX_THUMBNAILS = 1000
MAX_SAMPLES = 10  # worst images, and as many most expensive ones
THUMBNAIL_SIDE_PX = 128  # longest side
SAMPLE_SIDE_PX = 384  # longest side


@dataclass(frozen=True, eq=False)
class SampleImage:
    """Image with its prediction and its label, all of one size with a longest side of at most `SAMPLE_SIDE_PX`.

    Attributes:
        image_id: Identifier, unique within the dataset.
        image: JPEG, RGB.
        prediction: Grayscale PNG of 8 or 16 bits with class indices; see `image_encoding.decode_class_indices`.
        label: PNG like the prediction, ignored pixels have the largest value of its type; None without ground truth.
    """

    image_id: str
    image: bytes
    prediction: bytes
    label: bytes | None


@dataclass(frozen=True, eq=False)
class ReportData:
    """Images and counts of an evaluation on one dataset.

    Attributes:
        image_ids: Evaluated images, unique, in the order of per_image.csv and gates.npz.
        class_colors: (red, green, blue) of each class, uint8 (classes, 3).
        class_counts: Pixels of each image and class, int64 (images, 3, classes): intersection of prediction and label,
            predicted pixels, labelled pixels; without ignored pixels. None without ground truth.
        thumbnails: JPEGs by image id, longest side at most `THUMBNAIL_SIDE_PX`, of at most `MAX_THUMBNAILS` images that
            are spread evenly over the dataset.
        worst: Up to `MAX_SAMPLES` images with the lowest mIoU, lowest first; empty without ground truth.
        most_expensive: Up to `MAX_SAMPLES` images with the highest real cost, highest first.
        calibration: Pixels by confidence; None without ground truth.
    """

    image_ids: tuple[str, ...]
    class_colors: npt.NDArray[np.uint8]
    class_counts: npt.NDArray[np.int64] | None
    thumbnails: Mapping[str, bytes]
    worst: tuple[SampleImage, ...]
    most_expensive: tuple[SampleImage, ...]
    calibration: CalibrationCounts | None
