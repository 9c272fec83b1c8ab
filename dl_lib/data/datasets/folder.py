"""Custom dataset from a folder of images and a folder of labels."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

from dl_lib.config.paths import locate_data
from dl_lib.data.catalog import Catalog, Color, DatasetCatalog, DatasetMeta, voc_colormap
from dl_lib.data.datasets.file_dataset import FileDataset, build_file_dataset
from dl_lib.data.files import ensure_exists, find_files, pair_files, resolve_path

__all__ = ["FolderSource", "register_folder_sem_seg"]

_IMAGE_ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm")
_LABEL_ENDING = ".png"
_LAYOUT = "a folder of images and, if labelled, a folder of PNGs with the same names in the same subfolders"


@dataclass(frozen=True)
class FolderSource:
    """Arguments of `register_folder_sem_seg`; a call lists the folders and returns the dataset.

    Raises:
        ValueError: If classes, colors and ignore index are inconsistent.
    """

    images: str
    labels: str | None
    classes: tuple[str, ...]
    colors: tuple[Color, ...] | None = None
    ignore_value: int = 255
    label_suffix: str = ""

    def __post_init__(self) -> None:
        _ = self.meta  # validates the arguments

    @property
    def meta(self) -> DatasetMeta:
        return DatasetMeta(
            class_names=self.classes,
            class_colors=voc_colormap(len(self.classes)) if self.colors is None else self.colors,
            ignore_value=self.ignore_value,
            labelled=self.labels is not None,
        )

    def __call__(self) -> FileDataset:
        """List the folders and return the dataset.

        Raises:
            MissingDataError: If a folder is missing or contains no images.
            UnpairedFilesError: If an image has no label or a label no image.
        """
        image_folder = ensure_exists(resolve_path(self.images), layout=_LAYOUT)
        images = find_files(image_folder, endings=_IMAGE_ENDINGS)
        labels, location = None, str(image_folder)
        if self.labels is not None:
            label_folder = ensure_exists(resolve_path(self.labels), layout=_LAYOUT)
            labels = find_files(label_folder, endings=[self.label_suffix + _LABEL_ENDING])
            location += f" and {label_folder}"
        paired = pair_files(images.keys() | (labels or {}), images=images, labels=labels)
        return build_file_dataset(paired, location=location)


def register_folder_sem_seg(
    name: str,
    *,
    images: str | os.PathLike[str],
    classes: Sequence[str],
    labels: str | os.PathLike[str] | None = None,
    colors: Sequence[Color] | None = None,
    ignore_value: int = 255,
    label_suffix: str = "",
    catalog: Catalog = DatasetCatalog,
) -> None:
    """Register a folder of images and a folder of labels as a dataset; the folders are listed on first use.

    Images and labels are paired by their path within their folder, without file extension and label suffix. Images can
    have any common format. Labels are PNGs: grayscale with 8 or 16 bits, or with a palette.

    Args:
        name: Name for `DATASETS.TRAIN` and `DATASETS.TEST`.
        images: Image folder; a relative path is relative to the dataset root, or else to the folder of the net.py that
            registers it. `~` and `$VARIABLE` are expanded.
        classes: Names of the class ids 0, 1, ...
        labels: Folder of PNGs with the class ids, like `images`. None if there is no ground truth.
        colors: (red, green, blue) of each class, 0..255; None uses the PASCAL VOC colormap.
        ignore_value: Ignore index.
        label_suffix: Suffix of label names, such as `_mask` if `a.jpg` has the label `a_mask.png`.
        catalog: Catalog to register the dataset in.

    Raises:
        ValueError: If another dataset is registered under the name, or the arguments are inconsistent.
    """
    source = FolderSource(
        images=locate_data(images, key="images"),
        labels=None if labels is None else locate_data(labels, key="labels"),
        classes=tuple(classes),
        colors=None if colors is None else tuple(colors),
        ignore_value=ignore_value,
        label_suffix=label_suffix,
    )
    catalog.register(name, source, source.meta)
