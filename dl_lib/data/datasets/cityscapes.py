"""Cityscapes, as its archives unpack; https://www.cityscapes-dataset.com (Cordts et al., CVPR 2016, arXiv 1604.01685).

Layout below the data sets' root, for image `aachen_000000_000019`::

    cityscapes/leftImg8bit/train/aachen/aachen_000000_000019_leftImg8bit.png
    cityscapes/gtFine/train/aachen/aachen_000000_000019_gtFine_labelIds.png
    cityscapes/gtCoarse/train_extra/...                          the same with gtCoarse in the name
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import cv2
import numpy as np

from dl_lib.data.catalog import Catalog, DatasetMeta
from dl_lib.data.datasets.cityscapes_labels import CITYSCAPES_IGNORE, CITYSCAPES_LABELS
from dl_lib.data.datasets.file_dataset import FileDataset, build_file_dataset
from dl_lib.data.errors import InvalidSampleError, UnknownLabelError
from dl_lib.data.files import datasets_root, ensure_exists, find_files, pair_files
from dl_lib.data.reading import read_label

__all__ = ["CITYSCAPES_META", "load_cityscapes", "read_cityscapes_label", "register_cityscapes"]

_LAYOUT = (
    "cityscapes/leftImg8bit/{split}/CITY/*_leftImg8bit.png and, where there are labels, "
    "cityscapes/{kind}/{split}/CITY/*_{kind}_labelIds.png (or ..._labelTrainIds.png)"
)
_TRAIN_IDS_ENDING = "_labelTrainIds.png"
_UNKNOWN = 254  # neither a train id nor the one that is ignored
_SCORED = tuple(label for label in CITYSCAPES_LABELS if not label.ignore_in_eval)

CITYSCAPES_META = DatasetMeta(
    class_names=tuple(label.name for label in _SCORED),
    class_colors=tuple(label.color for label in _SCORED),
    ignore_value=CITYSCAPES_IGNORE,
    benchmark="cityscapes",
)


def load_cityscapes(split: str, *, kind: str, labelled: bool) -> FileDataset:
    """One split, listed anew; labels are train ids.

    Args:
        split: the folder in which its images lie.
        kind: of annotation, "gtFine" or "gtCoarse".
        labelled: whether its labels are to be read; those published for the test split are dummies.

    Raises:
        MissingDataError: if a folder is not there or empty.
        UnpairedFilesError: if images and labels do not go together.
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
    """Train ids, (H, W) uint8, from a file of ids; from one of train ids, as they are.

    Raises:
        UnreadableFileError: if the file cannot be read.
        InvalidSampleError: if it has more than 8 bits; UnknownLabelError: if it holds an id that Cityscapes lacks.
    """
    label = read_label(path)
    if path.endswith(_TRAIN_IDS_ENDING):
        return label
    if label.dtype != np.uint8:
        raise InvalidSampleError(f"{path} must have 8 bits, as all label files of Cityscapes. Received: {label.dtype}")
    train_ids = cv2.LUT(label, _TRAIN_IDS)
    is_unknown = train_ids == _UNKNOWN
    if is_unknown.any():
        raise UnknownLabelError(
            f"{path} holds ids that Cityscapes does not have; its label files hold 0..33. If these are "
            f"train ids already, its name has to end in {_TRAIN_IDS_ENDING}. Received: "
            f"ids={np.unique(label[is_unknown]).tolist()}, at {np.count_nonzero(is_unknown)} of {label.size} pixels"
        )
    return train_ids


def register_cityscapes(catalog: Catalog) -> None:
    """Register the splits with fine annotation, of which `test` is unlabelled, and `train_extra` with coarse."""
    for name, split, kind, labelled in (
        ("cityscapes_fine_sem_seg_train", "train", "gtFine", True),
        ("cityscapes_fine_sem_seg_val", "val", "gtFine", True),
        ("cityscapes_fine_sem_seg_test", "test", "gtFine", False),
        ("cityscapes_coarse_sem_seg_train_extra", "train_extra", "gtCoarse", True),
    ):
        meta = replace(CITYSCAPES_META, labelled=labelled)
        catalog.register(name, partial(load_cityscapes, split, kind=kind, labelled=labelled), meta)


def _train_id_table() -> np.ndarray:
    """(256,) uint8: the train id of each id."""
    table = np.full(256, _UNKNOWN, np.uint8)
    for label in CITYSCAPES_LABELS:
        if label.id >= 0:
            table[label.id] = label.train_id
    return table


_TRAIN_IDS = _train_id_table()
