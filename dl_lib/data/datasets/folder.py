"""Custom dataset from folders of images and labels."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dl_lib.config.declarations import KEYS
from dl_lib.config.errors import shown
from dl_lib.config.paths import locate_data
from dl_lib.data.catalog import Catalog, Color, DatasetCatalog, DatasetMeta, voc_colormap
from dl_lib.data.datasets.file_dataset import FileDataset, build_file_dataset
from dl_lib.data.datasets.folder_files import FilePattern, FolderRoot, list_roots
from dl_lib.data.datasets.layout_hints import pattern_hint
from dl_lib.data.files import PairedFiles, ensure_exists, read_names, resolve_path
from dl_lib.data.label_conversion import ColorReader
from dl_lib.data.label_map import LabelClasses
from dl_lib.data.reading import read_label

__all__ = ["FolderSource", "frozen", "register_folder_sem_seg"]

_PATH_KEYS = tuple(name.lower() for name in KEYS["DATASETS.FOLDERS"].path_entries)
Paths = str | tuple[str, ...]


@dataclass(frozen=True)
class FolderSource:
    """Arguments of `register_folder_sem_seg`; a call lists the folders and returns the dataset.

    Raises:
        ValueError: If the arguments are inconsistent.
    """

    images: Paths
    labels: Paths | None
    classes: tuple[str, ...]
    colors: tuple[Color, ...] | None = None
    ignore_value: int = 255
    split: Paths | None = None
    image_pattern: str = "{name}"
    label_pattern: str = "{name}"
    label_suffix: str = ""
    label_map: Mapping[Any, Any] | None = None
    reduce_zero: bool = False
    color_map: str | tuple[Any, ...] | Mapping[Any, Any] | None = None

    def __post_init__(self) -> None:
        if self.ignore_value == 0:
            raise ValueError(
                "ignore_value must not be one of the class ids, such as 0; if 0 is ignored in the files and class ids "
                "start at 1, keep 255 and set reduce_zero. Received: ignore_value=0"
            )
        _ = self.meta, self.image_files, self.label_files
        for name in ("labels", "split"):
            value = getattr(self, name)
            if value is not None and len(_listed(value)) != len(_listed(self.images)):
                raise ValueError(
                    f"{name} must have one path for each path of images. Received: {name}={shown(value)}, "
                    f"images={shown(self.images)}"
                )
        conversions = {"label_map": self.label_map, "reduce_zero": self.reduce_zero, "color_map": self.color_map}
        if len(used := [name for name, value in conversions.items() if value]) > 1:
            raise ValueError(f"labels must be converted in one way; write it as one label_map. Received: {used}")
        if not isinstance(self.color_map, str):
            self.label_reader()

    @property
    def meta(self) -> DatasetMeta:
        return DatasetMeta(
            class_names=self.classes,
            class_colors=self._label_colors() if self.colors is None else self.colors,
            ignore_value=self.ignore_value,
            labelled=self.labels is not None,
        )

    @property
    def image_files(self) -> FilePattern:
        """Pattern of the image files."""
        return FilePattern.of_images(self.image_pattern)

    @property
    def label_files(self) -> FilePattern:
        """Pattern of the label files."""
        if self.label_suffix and self.label_pattern != FolderSource.label_pattern:
            raise ValueError(
                "label_suffix must not be combined with label_pattern; add it to the pattern. "
                f"Received: label_suffix={shown(self.label_suffix)}, label_pattern={shown(self.label_pattern)}"
            )
        return FilePattern.of_labels(self.label_pattern + self.label_suffix)

    def __call__(self) -> FileDataset:
        """List the folders and return the dataset.

        Raises:
            MissingDataError: If a folder is missing or contains no images.
            UnpairedFilesError: If an image has no label or a label no image.
            DataError: If a split list or palette is invalid, or files are ambiguous.
        """
        reader, roots = self.label_reader(), self.roots()
        patterns = {"images": self.image_files, "labels": self.label_files}
        paired = list_roots(roots, **patterns)
        folders = [str(folder) for root in roots for folder in (root.images, root.labels) if folder is not None]
        return build_file_dataset(
            paired,
            location=" and ".join(dict.fromkeys(folders)),
            label_reader=reader,
            label_settings="" if reader is read_label else repr(reader),
            hint=self._hint(roots[0], paired) if paired.without_label or paired.without_image else "",
        )

    def _hint(self, root: FolderRoot, paired: PairedFiles) -> str:
        """Return a sentence on the cause of unpaired files, starting with a space, or an empty text."""
        if self.split is not None and set(paired.without_image) & set(paired.without_label):
            return " Each line of a split list must be the name or path of one image, without other columns."
        hint = pattern_hint(root, images=self.image_files, labels=self.label_files)
        if self.label_suffix and "set LABEL_PATTERN" in hint:
            return f"{hint} Remove LABEL_SUFFIX."
        if hint or not paired.without_label or not isinstance(self.images, str):
            return hint
        return f" Expected label: {self.label_files.file_of(paired.without_label[0])}."

    def roots(self) -> list[FolderRoot]:
        """Return the folders and read the split lists.

        Raises:
            MissingDataError: If a folder or list is missing.
            DataError: If a list is invalid.
        """
        images = _listed(self.images)
        labels: Sequence[str | None] = [None] * len(images) if self.labels is None else _listed(self.labels)
        splits: Sequence[str | None] = [None] * len(images) if self.split is None else _listed(self.split)
        return [
            FolderRoot(
                ensure_exists(resolve_path(image), layout="a folder of images (IMAGES)"),
                None if label is None else ensure_exists(resolve_path(label), layout="a folder of labels (LABELS)"),
                None
                if split is None
                else tuple(read_names(ensure_exists(resolve_path(split), layout="a list of names (SPLIT)"))),
            )
            for image, label, split in zip(images, labels, splits, strict=True)
        ]

    def label_reader(self) -> Callable[[str], np.ndarray]:
        """Return the function that reads the class ids of a label file.

        Raises:
            ValueError: If a label map is invalid.
            DataError: If a palette file cannot be read or is invalid.
        """
        known = LabelClasses(self.classes, ignore_value=self.ignore_value)
        if self.label_map is not None:
            return known.id_reader(self.label_map)
        if self.reduce_zero:
            return known.reduced_reader()
        if isinstance(self.color_map, str):
            return known.palette_reader(
                ensure_exists(resolve_path(self.color_map), layout="a palette file (COLOR_MAP)")
            )
        return read_label if self.color_map is None else known.color_reader(self.color_map)

    def _label_colors(self) -> tuple[Color, ...]:
        """Return the first color of each class in `color_map`; by default, the PASCAL VOC colormap."""
        default = voc_colormap(len(self.classes))
        reader = read_label if isinstance(self.color_map, str) else self.label_reader()
        if not isinstance(reader, ColorReader):
            return default
        listed = {label: color for color, label in reversed(reader.colors)}
        return tuple(listed.get(label, color) for label, color in enumerate(default))


def register_folder_sem_seg(
    name: str,
    *,
    images: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    classes: Sequence[str],
    labels: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | None = None,
    catalog: Catalog = DatasetCatalog,
    **settings: Any,
) -> None:
    """Register folders of images and labels as a dataset; they are listed on first use.

    Images and labels are paired by their path within their folder, without file extension. Images can have any common
    format. Labels are PNG, TIFF, BMP or .npy files of ids, or images of colors with `color_map`. `datasets/README.md`
    has an example for each layout.

    Args:
        name: Name for `DATASETS.TRAIN` and `DATASETS.TEST`.
        images: Image folder, or several; relative paths are relative to the dataset root, or else to the folder of the
            net.py that registers them. `~` and `$VARIABLE` are expanded in all paths.
        classes: Names of the class ids 0, 1, ...
        labels: Label folder of each image folder, which may be the image folder; None if there is no ground truth.
        catalog: Catalog to register the dataset in.
        settings: The optional keys of an entry of `DATASETS.FOLDERS` in lower case:

            - `split`: List of image names, one file per image folder.
            - `image_pattern`, `label_pattern`: File names, such as `{name}_sat.jpg` and `{name}_mask.png`.
            - `label_suffix`: Suffix of label names; `_mask` is short for the label pattern `{name}_mask`.
            - `label_map`: Map from raw id or range (`"1-5"`) to class index, class name or "ignore".
            - `reduce_zero`: True if 0 is ignored and the class ids in the files start at 1.
            - `color_map`: Colors of labels in class order, map from color to class or "ignore", or palette file.
            - `colors`: (red, green, blue) of each class for figures, 0..255; by default those of `color_map`, or the
              PASCAL VOC colormap.
            - `ignore_value`: Ignore index (default: 255).

    Raises:
        ValueError: If another dataset is registered under the name, or the arguments are inconsistent.
    """
    source = FolderSource(
        images=_located(images, key="images"),
        labels=_located(labels, key="labels"),
        classes=tuple(classes),
        **{key: _located(value, key=key) if key in _PATH_KEYS else frozen(value) for key, value in settings.items()},
    )
    catalog.register(name, source, source.meta)


def frozen(value: Any) -> Any:
    """Return an argument with lists as tuples, so that equal settings compare equal."""
    return tuple(frozen(item) for item in value) if isinstance(value, (list, tuple)) else value


def _located(value: Any, *, key: str) -> Any:
    """Return an argument with its paths located, see `locate_data`; colors, which are no paths, stay as they are."""
    if isinstance(value, (list, tuple)):
        return tuple(_located(item, key=key) for item in value)
    return locate_data(value, key=key) if isinstance(value, (str, os.PathLike)) else value


def _listed(paths: Paths) -> tuple[str, ...]:
    return (paths,) if isinstance(paths, str) else paths
