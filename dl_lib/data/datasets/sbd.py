"""PASCAL VOC 2012 extended by SBD, the usual 10,582 training images.

SBD is "Semantic Contours from Inverse Detectors" (Hariharan et al., ICCV 2011): 11,355 images of PASCAL VOC 2011 with
labels of its own, also for what is in VOC 2012's validation split, which must not be trained on.

Layout below the data sets' root, as torchvision's SBDataset and dl_lib prepare-voc unpack it::

    sbd/img/2008_000002.jpg
    sbd/cls/2008_000002.mat          ids, as a MATLAB struct GTcls with the field Segmentation
    sbd/train.txt, sbd/val.txt       SBD's own splits
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from dl_lib.data.catalog import Catalog
from dl_lib.data.datasets.file_dataset import FileDataset, build_file_dataset
from dl_lib.data.datasets.voc import VOC_META, read_names, voc_images, voc_labels, voc_names
from dl_lib.data.errors import MissingDataError, UnreadableFileError
from dl_lib.data.files import datasets_root, ensure_exists, find_files, pair_files
from dl_lib.data.reading import read_label

__all__ = ["augmented_names", "load_voc_aug", "read_sbd_label", "register_voc_aug"]

_LAYOUT = "sbd with img/*.jpg, cls/*.mat, train.txt and val.txt, beside VOCdevkit/VOC2012"
_MAT_ENDING = ".mat"


def load_voc_aug() -> FileDataset:
    """Everything of VOC's and SBD's that is not in VOC's validation split, listed anew.

    VOC's own label goes before SBD's, which is coarser and has no border.

    Raises:
        MissingDataError: if a list or a folder is not there.
        UnpairedFilesError: if a name of a list lacks its image or its label.
        ImportError: if scipy, which reads the labels, is not installed.
    """
    _import_loadmat()  # better now than with the first sample, in another process
    own = set(voc_names("train"))
    images = _chosen(own, voc=voc_images(), sbd=_find("img", ".jpg"))
    labels = _chosen(own, voc=voc_labels(), sbd=_find("cls", _MAT_ENDING))
    return build_file_dataset(
        pair_files(augmented_names(), images=images, labels=labels),
        location=f"{datasets_root()} (VOCdevkit/VOC2012 and sbd)",
        label_reader=_read_either,
    )


def augmented_names() -> list[str]:
    """The sorted names of VOC's training split and of all of SBD, without those of VOC's validation split.

    Raises:
        MissingDataError: if a list is not there.
    """
    names = set(voc_names("train"))
    for split in ("train", "val"):
        names |= set(read_names(ensure_exists(datasets_root() / "sbd" / f"{split}.txt", layout=_LAYOUT)))
    return sorted(names - set(voc_names("val")))


def read_sbd_label(path: str) -> np.ndarray:
    """The ids, (H, W) uint8, in one of SBD's label files.

    Raises:
        MissingDataError: if there is no such file.
        UnreadableFileError: if it is no label of SBD's.
        ImportError: if scipy is not installed.
    """
    loadmat = _import_loadmat()
    try:
        label = loadmat(path, appendmat=False, variable_names=["GTcls"])["GTcls"]["Segmentation"][0, 0]
    except FileNotFoundError:
        raise MissingDataError(f"there is no such file. Received: path={path!r}") from None
    except Exception as error:  # scipy meets damaged files with errors of many kinds
        raise UnreadableFileError(
            f"{path} is no label of SBD's, or damaged: expected a MATLAB file with GTcls.Segmentation. "
            f"Received: {type(error).__name__}: {error}"
        ) from error
    if not isinstance(label, np.ndarray) or label.dtype != np.uint8 or label.ndim != 2:
        raise UnreadableFileError(
            f"GTcls.Segmentation in {path} must be (H, W) uint8. Received: {getattr(label, 'dtype', type(label))}, "
            f"shape={np.shape(label)}"
        )
    return label


def register_voc_aug(catalog: Catalog) -> None:
    """Register `voc_2012_aug_sem_seg_train`."""
    catalog.register("voc_2012_aug_sem_seg_train", load_voc_aug, VOC_META)


def _read_either(path: str) -> np.ndarray:
    return read_sbd_label(path) if path.endswith(_MAT_ENDING) else read_label(path)


def _find(folder: str, ending: str) -> dict[str, str]:
    return find_files(ensure_exists(datasets_root() / "sbd" / folder, layout=_LAYOUT), endings=[ending])


def _chosen(own: set[str], *, voc: dict[str, str], sbd: dict[str, str]) -> dict[str, str]:
    """VOC's files for VOC's own names, SBD's for all others."""
    chosen = {name: path for name, path in sbd.items() if name not in own}
    return chosen | {name: path for name, path in voc.items() if name in own}


def _import_loadmat() -> Callable[..., dict[str, Any]]:
    try:
        from scipy.io import loadmat
    except ImportError as error:
        raise ImportError(
            "the labels of SBD are MATLAB files, which scipy reads, and scipy is not installed. "
            "Install it with: pip install -e .[voc]"
        ) from error
    return loadmat
