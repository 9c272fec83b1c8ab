"""PASCAL VOC 2012 augmented with SBD: the usual 10,582 training images.

SBD is "Semantic Contours from Inverse Detectors" (Hariharan et al., ICCV 2011): 11,355 images of PASCAL VOC 2011 with
additional annotations. It overlaps with the VOC 2012 validation split, which is excluded from training.

Layout below the dataset root, as extracted by torchvision's `SBDataset` and by `dl_lib prepare-voc`::

    sbd/img/2008_000002.jpg
    sbd/cls/2008_000002.mat          class ids, as the field Segmentation of a MATLAB struct GTcls
    sbd/train.txt, sbd/val.txt       SBD's own splits
"""

from __future__ import annotations

import numpy as np

from dl_lib.config.paths import datasets_root
from dl_lib.data.catalog import Catalog
from dl_lib.data.datasets.file_dataset import FileDataset, build_file_dataset
from dl_lib.data.datasets.mat_file import MatFileError, read_uint8_field
from dl_lib.data.datasets.voc import VOC_META, voc_images, voc_labels, voc_names
from dl_lib.data.errors import UnreadableFileError
from dl_lib.data.files import ensure_exists, pair_files, read_names
from dl_lib.data.listing import find_files
from dl_lib.data.reading import read_bytes, read_label

__all__ = ["augmented_names", "load_voc_aug", "read_sbd_label", "register_voc_aug"]

_LAYOUT = "sbd with img/*.jpg, cls/*.mat, train.txt and val.txt, next to VOCdevkit/VOC2012"
_MAT_ENDING = ".mat"


def load_voc_aug() -> FileDataset:
    """List the images of VOC and SBD that are not in the VOC validation split.

    Labels of VOC take precedence over those of SBD, which are coarser and have no ignored border.

    Raises:
        MissingDataError: If a split list or a folder is missing.
        UnpairedFilesError: If a listed name has no image or no label.
    """
    voc_train = set(voc_names("train"))
    images = _merge(voc_train, voc=voc_images(), sbd=_find("img", ".jpg"))
    labels = _merge(voc_train, voc=voc_labels(), sbd=_find("cls", _MAT_ENDING))
    return build_file_dataset(
        pair_files(augmented_names(), images=images, labels=labels),
        location=f"{datasets_root()} (VOCdevkit/VOC2012 and sbd)",
        label_reader=_read_label,
    )


def augmented_names() -> list[str]:
    """Return the sorted names of the VOC training split and both SBD splits, without the VOC validation split."""
    names = set(voc_names("train"))
    for split in ("train", "val"):
        names |= set(read_names(ensure_exists(datasets_root() / "sbd" / f"{split}.txt", layout=_LAYOUT)))
    return sorted(names - set(voc_names("val")))


def read_sbd_label(path: str) -> np.ndarray:
    """Read the class ids of an SBD label file, (H, W) uint8.

    Raises:
        MissingDataError: If the file does not exist.
        UnreadableFileError: If the file is damaged or not an SBD label.
    """
    try:
        return read_uint8_field(read_bytes(path), variable="GTcls", field="Segmentation")
    except MatFileError as error:
        raise UnreadableFileError(
            f"{path} is damaged or not an SBD label. Expected a MATLAB file with GTcls.Segmentation, a (height, width) "
            f"matrix of class uint8. Received: {error}"
        ) from error


def register_voc_aug(catalog: Catalog) -> None:
    catalog.register("voc_2012_aug_sem_seg_train", load_voc_aug, VOC_META)


def _read_label(path: str) -> np.ndarray:
    return read_sbd_label(path) if path.lower().endswith(_MAT_ENDING) else read_label(path)


def _find(folder: str, ending: str) -> dict[str, str]:
    return find_files(ensure_exists(datasets_root() / "sbd" / folder, layout=_LAYOUT), endings=[ending])


def _merge(own: set[str], *, voc: dict[str, str], sbd: dict[str, str]) -> dict[str, str]:
    """Return VOC files for `own` names and SBD's files for all others."""
    merged = {name: path for name, path in sbd.items() if name not in own}
    return merged | {name: path for name, path in voc.items() if name in own}
