"""PASCAL VOC 2012 (http://host.robots.ox.ac.uk/pascal/VOC/voc2012/).

Layout below the dataset root, as in the extracted archive, for image `2007_000032`::

    VOCdevkit/VOC2012/JPEGImages/2007_000032.jpg
    VOCdevkit/VOC2012/SegmentationClass/2007_000032.png
    VOCdevkit/VOC2012/ImageSets/Segmentation/train.txt           and val.txt, trainval.txt, test.txt

Label files are palette PNGs whose indices are the class ids: 0 for background, 1..20 for the objects in alphabetical
order, and the ignore index 255 for a border of some pixels around each object.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

from dl_lib.config.paths import datasets_root
from dl_lib.data.catalog import Catalog, DatasetMeta, voc_colormap
from dl_lib.data.datasets.file_dataset import FileDataset, build_file_dataset
from dl_lib.data.files import ensure_exists, pair_files, read_names
from dl_lib.data.listing import find_files

__all__ = [
    "VOC_META",
    "VOC_PALETTE",
    "load_voc",
    "register_voc",
    "voc_images",
    "voc_labels",
    "voc_list",
    "voc_names",
]

VOC_PALETTE = voc_colormap(256)  # palette of the label files, including the ignore index 255

_CLASS_NAMES = (
    *("background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
)
VOC_META = DatasetMeta(
    class_names=_CLASS_NAMES,
    class_colors=VOC_PALETTE[: len(_CLASS_NAMES)],
    ignore_value=255,
    benchmark="voc",
)

_LAYOUT = (
    "VOCdevkit/VOC2012 with JPEGImages/*.jpg, ImageSets/Segmentation/*.txt and, for labelled splits, "
    "SegmentationClass/*.png"
)


def load_voc(split: str, *, labelled: bool) -> FileDataset:
    """List the files of a split; the labels of the test split are not published.

    Raises:
        MissingDataError: If the split list or a folder is missing.
        UnpairedFilesError: If a listed name has no image or no label.
    """
    paired = pair_files(voc_names(split), images=voc_images(), labels=voc_labels() if labelled else None)
    return build_file_dataset(paired, location=f"{_folder()} ({split})")


def voc_names(split: str) -> list[str]:
    """Return the image names of a split, in the order of its list."""
    return read_names(ensure_exists(voc_list(split), layout=_LAYOUT))


def voc_list(split: str) -> Path:
    """Return the path of a split list, which need not exist."""
    return _folder() / "ImageSets" / "Segmentation" / f"{split}.txt"


def voc_images() -> dict[str, str]:
    """Return the paths of all images by name."""
    return find_files(ensure_exists(_folder() / "JPEGImages", layout=_LAYOUT), endings=[".jpg"])


def voc_labels() -> dict[str, str]:
    """Return the paths of all labels by name."""
    return find_files(ensure_exists(_folder() / "SegmentationClass", layout=_LAYOUT), endings=[".png"])


def register_voc(catalog: Catalog) -> None:
    """Register the splits of VOC 2012; `test` is unlabelled."""
    for split in ("train", "val", "trainval", "test"):
        labelled = split != "test"
        loader = partial(load_voc, split, labelled=labelled)
        catalog.register(f"voc_2012_sem_seg_{split}", loader, replace(VOC_META, labelled=labelled))


def _folder() -> Path:
    return datasets_root() / "VOCdevkit" / "VOC2012"
