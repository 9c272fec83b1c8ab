"""Cityscapes (Cordts et al., CVPR 2016, arXiv 1604.01685; https://www.cityscapes-dataset.com).

Layout below the dataset root, as in the extracted archives, for image `aachen_000000_000019`::

    cityscapes/leftImg8bit/train/aachen/aachen_000000_000019_leftImg8bit.png
    cityscapes/gtFine/train/aachen/aachen_000000_000019_gtFine_labelIds.png
    cityscapes/gtCoarse/train_extra/...                          the same, with gtCoarse in the name
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import cv2
import numpy as np

from dl_lib.config.paths import datasets_root
from dl_lib.data.catalog import Catalog, DatasetMeta
from dl_lib.data.datasets.cityscapes_labels import CITYSCAPES_IGNORE, CITYSCAPES_LABELS
from dl_lib.data.datasets.file_dataset import FileDataset, build_file_dataset
from dl_lib.data.errors import InvalidSampleError, UnknownLabelError
from dl_lib.data.files import ensure_exists, pair_files
from dl_lib.data.listing import find_files
from dl_lib.data.reading import read_label

__all__ = ["CITYSCAPES_META", "load_cityscapes", "read_cityscapes_label", "register_cityscapes"]

_LAYOUT = (
    "cityscapes/leftImg8bit/{split}/CITY/*_leftImg8bit.png and, for labelled splits, "
    "cityscapes/{kind}/{split}/CITY/*_{kind}_labelIds.png (or ..._labelTrainIds.png)"
)
_TRAIN_IDS_ENDING = "_labelTrainIds.png"
_UNKNOWN = 254  # table entry of undefined ids; neither a train id nor the ignore index
_SCORED = tuple(label for label in CITYSCAPES_LABELS if not label.ignore_in_eval)

CITYSCAPES_META = DatasetMeta(
    class_names=tuple(label.name for label in _SCORED),
    class_colors=tuple(label.color for label in _SCORED),
    ignore_value=CITYSCAPES_IGNORE,
    benchmark="cityscapes",
)


def load_cityscapes(split: str, *, kind: str, labelled: bool) -> FileDataset:
    """List the files of a split. Labels are train ids.

    Args:
        split: Name of the split and of its folders.
        kind: Annotation type, "gtFine" or "gtCoarse".
        labelled: Whether to read the labels; the published labels of the test split are dummies.

    Raises:
        MissingDataError: If a folder is missing or empty.
        UnpairedFilesError: If an image has no label or a label no image.
    """
    root = datasets_root() / "cityscapes"
    layout = _LAYOUT.format(split=split, kind=kind)
    folder = ensure_exists(root / "leftImg8bit" / split, layout=layout)
    images = find_files(folder, endings=["_leftImg8bit.png"], flat=True)
    labels = None
    if labelled:
        folder = ensure_exists(root / kind / split, layout=layout)
        labels = find_files(folder, endings=[f"_{kind}_labelIds.png"], flat=True)
        labels |= find_files(folder, endings=[f"_{kind}{_TRAIN_IDS_ENDING}"], flat=True)
    names = images.keys() | (labels or {}).keys()
    return build_file_dataset(
        pair_files(names, images=images, labels=labels),
        location=f"{root} ({split})",
        label_reader=read_cityscapes_label,
    )


def read_cityscapes_label(path: str) -> np.ndarray:
    """Read a label file as train ids, (H, W) uint8. Files of ids are converted, files of train ids returned unchanged.

    Raises:
        UnreadableFileError: If the file cannot be decoded.
        InvalidSampleError: If a file of ids has more than 8 bits.
        UnknownLabelError: If it contains an id that Cityscapes does not define.
    """
    label = read_label(path)
    if path.lower().endswith(_TRAIN_IDS_ENDING.lower()):
        return label
    if label.dtype != np.uint8:
        raise InvalidSampleError(
            f"{path} must have 8 bits per pixel, like all Cityscapes labels. Received: dtype={label.dtype}"
        )
    train_ids = cv2.LUT(label, _TRAIN_IDS)
    is_unknown = train_ids == _UNKNOWN
    if is_unknown.any():
        raise UnknownLabelError(
            f"{path} contains ids that Cityscapes does not define. Expected ids 0..33; if the file contains train ids, "
            f"rename it to *{_TRAIN_IDS_ENDING}. "
            f"Received: ids={np.unique(label[is_unknown]).tolist()} in {np.count_nonzero(is_unknown)} of {label.size} "
            "pixels"
        )
    return train_ids


def register_cityscapes(catalog: Catalog) -> None:
    """Register the splits with fine annotations (`test` is unlabelled) and `train_extra` with coarse ones."""
    for name, split, kind, labelled in (
        ("cityscapes_fine_sem_seg_train", "train", "gtFine", True),
        ("cityscapes_fine_sem_seg_val", "val", "gtFine", True),
        ("cityscapes_fine_sem_seg_test", "test", "gtFine", False),
        ("cityscapes_coarse_sem_seg_train_extra", "train_extra", "gtCoarse", True),
    ):
        meta = replace(CITYSCAPES_META, labelled=labelled, sparse=kind == "gtCoarse")
        catalog.register(name, partial(load_cityscapes, split, kind=kind, labelled=labelled), meta)


def _train_id_table() -> np.ndarray:
    """Return a (256,) uint8 lookup table from id to train id."""
    table = np.full(256, _UNKNOWN, np.uint8)
    for label in CITYSCAPES_LABELS:
        if label.id >= 0:
            table[label.id] = label.train_id
    return table


_TRAIN_IDS = _train_id_table()
