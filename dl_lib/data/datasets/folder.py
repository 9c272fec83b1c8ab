"""Data sets of one's own: a folder of images, and a folder of labels with the same names."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

from dl_lib.data.catalog import Catalog, DatasetCatalog, DatasetMeta, voc_colormap
from dl_lib.data.datasets.file_dataset import FileDataset, build_file_dataset
from dl_lib.data.files import ensure_exists, find_files, pair_files, resolve_path

__all__ = ["FolderSource", "register_folder_sem_seg"]

Color = tuple[int, int, int]

_IMAGE_ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm")
_LABEL_ENDING = ".png"
_LAYOUT = "a folder of images and, where there are labels, one of PNGs with the same names, in the same subfolders"


@dataclass(frozen=True)
class FolderSource:
    """Where the images and labels of a data set lie; called, it lists them.

    Args:
        images: folder; a relative path is one below the data sets' root.
        labels: folder of PNGs whose values are the ids, likewise; None for a data set without ground truth.
        classes: names of the ids 0, 1, ...
        colors: (red, green, blue) of each class, 0..255; None makes them up.
        ignore_value: the one other id that may occur.
        label_suffix: what a label's name has behind that of its image, such as `_mask`.

    Raises:
        ValueError: if classes, colours and ignore value contradict each other.
    """

    images: str
    labels: str | None
    classes: tuple[str, ...]
    colors: tuple[Color, ...] | None = None
    ignore_value: int = 255
    label_suffix: str = ""

    def __post_init__(self) -> None:
        _ = self.meta  # which checks itself

    @property
    def meta(self) -> DatasetMeta:
        """What is known without listing."""
        return DatasetMeta(
            class_names=self.classes,
            class_colors=voc_colormap(len(self.classes)) if self.colors is None else self.colors,
            ignore_value=self.ignore_value,
            labelled=self.labels is not None,
        )

    def __call__(self) -> FileDataset:
        """The data set, listed anew.

        Raises:
            MissingDataError: if a folder is not there, or there are no images.
            UnpairedFilesError: if images and labels do not go together.
        """
        image_folder = ensure_exists(resolve_path(self.images), layout=_LAYOUT)
        images = find_files(image_folder, endings=_IMAGE_ENDINGS)
        labels, location = None, str(image_folder)
        if self.labels is not None:
            label_folder = ensure_exists(resolve_path(self.labels), layout=_LAYOUT)
            labels = find_files(label_folder, endings=[self.label_suffix + _LABEL_ENDING])
            location += f" and {label_folder}"
        return build_file_dataset(
            pair_files(images.keys() | (labels or {}), images=images, labels=labels), location=location
        )


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
    """Register a pair of folders as a data set; they are listed when it is needed.

    An image and a label belong together if their paths within the two folders are the same but for the endings (and
    the suffix). Images may be of any common type, labels are PNGs: grey ones of 8 or 16 bits, or with a palette.

    Args:
        name: for `DATASETS.TRAIN` and `DATASETS.TEST`.
        images: see FolderSource, as for all that follow.
        classes: names of the ids 0, 1, ...
        labels: None for a data set without ground truth.
        colors: one for each class.
        ignore_value: the one other id that may occur.
        label_suffix: such as `_mask`.
        catalog: where to register it.

    Raises:
        ValueError: if another data set has the name, or the arguments contradict each other.
    """
    source = FolderSource(
        images=os.fspath(images),
        labels=None if labels is None else os.fspath(labels),
        classes=tuple(classes),
        colors=None if colors is None else tuple(colors),
        ignore_value=ignore_value,
        label_suffix=label_suffix,
    )
    catalog.register(name, source, source.meta)
