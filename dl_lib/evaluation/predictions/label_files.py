"""Predictions as label images: PNGs with one id per pixel, in the form that a benchmark wants."""

from __future__ import annotations

import io
from pathlib import Path, PurePosixPath

import cv2
import numpy as np
from PIL import Image

from dl_lib.data.catalog import Benchmark
from dl_lib.data.datasets.cityscapes_labels import TRAIN_ID_TO_ID
from dl_lib.data.datasets.voc import VOC_PALETTE
from dl_lib.data.errors import InvalidSampleError
from dl_lib.evaluation.scores.prediction import Prediction

__all__ = ["LabelPngWriter", "encode_label", "label_path"]

_CITYSCAPES_IDS = np.array(TRAIN_ID_TO_ID, np.uint8)
_VOC_PALETTE = np.array(VOC_PALETTE, np.uint8).tobytes()


class LabelPngWriter:
    """A PNG for each image, `<image id>.png`: named so, the official script of Cityscapes finds them.

    Several processes write beside each other into one folder, which they have to share.

    Args:
        folder: for the files; made where it does not exist.
        benchmark: whose form they get: label ids for "cityscapes", indices into VOC's palette for "voc"; class indices
            in grey for "", with 16 bits if 8 are not enough.
    """

    def __init__(self, folder: Path, *, benchmark: Benchmark) -> None:
        self.folder = folder
        self.benchmark = benchmark

    def open(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)

    def process(self, prediction: Prediction) -> None:
        path = label_path(self.folder, prediction.image_id)
        path.parent.mkdir(parents=True, exist_ok=True)  # ids may have folders in them
        path.write_bytes(encode_label(prediction.classes.cpu().numpy(), benchmark=self.benchmark))

    def close(self) -> None:
        """Nothing is left to be done: each file is whole."""


def label_path(folder: Path, image_id: str) -> Path:
    """Where the label image of an image lies.

    Raises:
        InvalidSampleError: if the id leads out of the folder.
    """
    relative = PurePosixPath(image_id)
    if relative.is_absolute() or not relative.name or ".." in relative.parts:
        raise InvalidSampleError(
            f"an image's id becomes the name of its file in {folder}, and this one leads out of there; change the "
            f"data set's ids. Received: image_id={image_id!r}"
        )
    return folder / f"{relative}.png"


def encode_label(classes: np.ndarray, *, benchmark: Benchmark) -> bytes:
    """The bytes of a PNG file.

    Args:
        classes: (height, width) integers, class indices of the data set.
        benchmark: whose form is wanted, see `LabelPngWriter`.

    Raises:
        ValueError: if a class does not fit into 16 bits.
    """
    if benchmark == "voc":
        picture = Image.fromarray(classes.astype(np.uint8))
        picture.putpalette(_VOC_PALETTE)
        file = io.BytesIO()
        picture.save(file, format="PNG")
        return file.getvalue()
    if benchmark == "cityscapes":
        ids = _CITYSCAPES_IDS[classes]
    else:
        _check_fits(classes)
        ids = classes if classes.dtype == np.uint8 else classes.astype(np.uint16)
    done, data = cv2.imencode(".png", ids)
    assert done, "opencv could not encode integers"
    return data.tobytes()


def _check_fits(classes: np.ndarray) -> None:
    if classes.max(initial=0) > np.iinfo(np.uint16).max:
        raise ValueError(
            "a PNG has at most 16 bits for a class; save predictions with so many classes as coco_rle. "
            f"Received: classes.max()={classes.max()}"
        )
