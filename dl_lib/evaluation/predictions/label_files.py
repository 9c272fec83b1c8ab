"""Label PNGs of predictions in the format of a benchmark."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from dl_lib.data.catalog import Benchmark, Color
from dl_lib.data.datasets.cityscapes_labels import TRAIN_ID_TO_ID
from dl_lib.data.datasets.voc import VOC_PALETTE
from dl_lib.data.errors import InvalidSampleError
from dl_lib.evaluation.scores.prediction import Prediction
from dl_lib.utils.files import write_errors
from dl_lib.utils.names import is_safe_id

__all__ = ["LabelPngWriter", "encode_label", "encode_palette_label", "label_path"]

_CITYSCAPES_IDS = np.array(TRAIN_ID_TO_ID, np.uint8)


class LabelPngWriter:
    """Writer of one label PNG per image, `<image id>.png`, the name that the official Cityscapes script expects.

    All processes write into the same folder, which must be on a shared file system.

    Args:
        folder: Output folder, created if necessary.
        benchmark: Pixel format: label ids for "cityscapes", palette indices for "voc", grayscale class indices for ""
            (16 bits if 8 bits are not sufficient).
    """

    def __init__(self, folder: Path, *, benchmark: Benchmark) -> None:
        self.folder = folder
        self.benchmark = benchmark

    def open(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)

    def process(self, prediction: Prediction) -> None:
        path = label_path(self.folder, prediction.image_id)
        content = encode_label(prediction.classes.cpu().numpy(), benchmark=self.benchmark)
        with write_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)  # ids may contain folders
            path.write_bytes(content)

    def close(self) -> None:
        """Do nothing, since every file is complete."""


def label_path(folder: Path, image_id: str) -> Path:
    """Return the path of an image's label PNG.

    Raises:
        InvalidSampleError: If the path would be outside the folder or is no valid file name.
    """
    if not is_safe_id(image_id):
        raise InvalidSampleError(
            f"image_id must be a relative path inside the output folder {folder}, as it becomes a file name, without "
            f"hidden folders, \\ and control characters; change the ids of the dataset. "
            f"Received: image_id={image_id!r:.200}"
        )
    return folder / f"{image_id}.png"


def encode_label(classes: np.ndarray, *, benchmark: Benchmark) -> bytes:
    """Encode class indices, integers (H, W), as a PNG file in the pixel format of a benchmark, see `LabelPngWriter`.

    Raises:
        ValueError: If a class index exceeds 16 bits.
    """
    if benchmark == "voc":
        return encode_palette_label(classes, colors=VOC_PALETTE)
    if benchmark == "cityscapes":
        ids = _CITYSCAPES_IDS[classes]
    else:
        if classes.max(initial=0) > np.iinfo(np.uint16).max:
            raise ValueError(
                "class indices of a label PNG must fit into 16 bits; save predictions with more classes as coco_rle. "
                f"Received: classes.max()={classes.max()}"
            )
        ids = classes if classes.dtype == np.uint8 else classes.astype(np.uint16)
    done, data = cv2.imencode(".png", ids)
    assert done, "opencv could not encode integers"
    return data.tobytes()


def encode_palette_label(classes: np.ndarray, *, colors: Sequence[Color]) -> bytes:
    """Encode class indices below 256, integers (H, W), as a PNG with up to 256 colors as its palette."""
    image = Image.fromarray(classes.astype(np.uint8))
    image.putpalette(np.array(colors, np.uint8).tobytes())
    file = io.BytesIO()
    image.save(file, format="PNG")
    return file.getvalue()
