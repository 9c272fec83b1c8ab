"""Semantic segmentation datasets from COCO annotations, instances or stuff."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dl_lib.config.paths import locate_data
from dl_lib.data.catalog import Catalog, DatasetCatalog, DatasetMeta, voc_colormap
from dl_lib.data.datasets.coco_file import CocoImage, read_coco, read_coco_classes
from dl_lib.data.datasets.coco_regions import Region, rasterize_regions
from dl_lib.data.errors import DataError, InvalidSampleError, MissingDataError
from dl_lib.data.files import ensure_exists, evenly_spaced, existing_form, resolve_path
from dl_lib.data.orientation import describe_swapped_sides
from dl_lib.data.raw_dataset import RawSample, fingerprint_files
from dl_lib.data.reading import read_image
from dl_lib.data.serialized_list import SerializedList

__all__ = ["CocoSemSeg", "CocoSource", "register_coco_sem_seg"]

_LAYOUT = "a COCO annotation file and a folder with its images"
_MAX_CHECKED = 16  # images, evenly spaced


class CocoSemSeg:
    """Map-style dataset that rasterizes the annotations of an image into a label map on access."""

    def __init__(self, images: Iterable[CocoImage], *, folder: Path, unlabelled: int, label_type: np.dtype) -> None:
        self._records = SerializedList(_record(image) for image in images)
        self._folder = folder
        self._unlabelled = unlabelled  # label of pixels without annotation
        self._label_type = label_type

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int) -> RawSample:
        record = _image(self._records[index])
        path = self.file_name(index)
        image = read_image(path)
        size = (record.height, record.width)
        if image.shape[:2] != size:
            fix = describe_swapped_sides(image.shape[:2], size) or "; fix the image or the annotation file"
            raise InvalidSampleError(
                f"image {record.image_id!r} ({path}) must have the size in its annotation file, {record.height} x "
                f"{record.width} (height x width){fix}. "
                f"Received: {image.shape[0]} x {image.shape[1]} pixels"
            )
        return {"image": image, "sem_seg": self.label(index), "image_id": record.image_id, "file_name": path}

    def label(self, index: int) -> np.ndarray:
        record = _image(self._records[index])
        label = np.full((record.height, record.width), self._unlabelled, self._label_type)
        try:
            rasterize_regions(label, record.regions)
        except InvalidSampleError as error:
            raise InvalidSampleError(f"image {record.image_id!r} ({self.file_name(index)}), {error}") from None
        return label

    def file_name(self, index: int) -> str:
        return existing_form(str(self._folder / _image(self._records[index]).file_name))

    def image_size(self, index: int) -> tuple[int, int]:
        record = _image(self._records[index])
        return record.height, record.width

    def fingerprint(self) -> str:
        """Return a digest of files and annotations, see `dl_lib.data.raw_dataset.HasFingerprint`."""
        paths = (self.file_name(index) for index in range(len(self)))
        return fingerprint_files(paths, extra=f"{self._records.digest()} {self._unlabelled} {self._label_type}")


@dataclass(frozen=True)
class CocoSource:
    """Arguments of `register_coco_sem_seg`; calling it reads the annotation file and returns the dataset."""

    annotations: str
    images: str
    background: str | None
    ignore_value: int

    def __call__(self) -> CocoSemSeg:
        """Read the annotation file and return the dataset.

        Raises:
            MissingDataError: If the file, the folder or the images are missing, or the file lists no images.
            UnreadableFileError: If the file is not in COCO format.
            DataError: If the annotations are invalid or inconsistent.
        """
        folder = ensure_exists(resolve_path(self.images), layout=_LAYOUT)
        content = read_coco(self._path(), background=self.background, crowd_label=self.ignore_value)
        if not content.images:
            raise MissingDataError(
                f"{self.annotations} lists no images; check that it is the intended annotation file. "
                "Received: images=[]"
            )
        dataset = CocoSemSeg(
            content.images,
            folder=folder,
            unlabelled=self.ignore_value if self.background is None else 0,
            label_type=np.min_scalar_type(max(self.ignore_value, self._meta(content.class_names).num_classes - 1)),
        )
        _check_images_exist(dataset, self, name=content.images[0].file_name)
        return dataset

    def meta(self) -> DatasetMeta:
        """Read the metadata: the background class, if any, and the categories; nothing else is checked."""
        return self._meta(read_coco_classes(self._path(), background=self.background))

    def _path(self) -> Path:
        return ensure_exists(resolve_path(self.annotations), layout=_LAYOUT)

    def _meta(self, names: tuple[str, ...]) -> DatasetMeta:
        try:
            return DatasetMeta(names, voc_colormap(len(names)), ignore_value=self.ignore_value)
        except ValueError as error:
            raise DataError(f"the categories of {self.annotations} are invalid as classes: {error}") from error


def _check_images_exist(dataset: CocoSemSeg, source: CocoSource, *, name: str) -> None:
    """Look for some images: if none exists, the folder is not the one that the file names are relative to."""
    checked = evenly_spaced(range(len(dataset)), limit=_MAX_CHECKED)
    if not any(os.path.exists(dataset.file_name(index)) for index in checked):
        raise MissingDataError(
            f"images must be the folder that the file names in {source.annotations} are relative to; it contains none "
            f"of {len(checked)} images. Received: images={source.images!r}, file_name={name!r}"
        )


def register_coco_sem_seg(
    name: str,
    *,
    json: str | os.PathLike[str],
    images: str | os.PathLike[str],
    background: str | None = "background",
    ignore_value: int = 255,
    catalog: Catalog = DatasetCatalog,
) -> None:
    """Register images with COCO annotations as a semantic segmentation dataset.

    Categories become classes in the order of their ids, starting at 1, or at 0 without a background class. A category
    with the name of the background class, also in the form `_background_`, becomes this class. Where regions overlap,
    the smallest one is visible. Crowds are ignored, except where an object is annotated individually.

    The annotation file is read when the dataset is constructed, and again when its metadata are requested.

    Args:
        name: Name for `DATASETS.TRAIN` and `DATASETS.TEST`.
        json: Annotation file; a relative path is relative to the dataset root, or else to the folder of the net.py that
            registers it. `~` and `$VARIABLE` are expanded.
        images: Folder of the image files, like `json`.
        background: Name of class 0 for pixels without annotation; None ignores these pixels.
        ignore_value: Ignore index, 0..65535, also the label of crowds.
        catalog: Catalog to register the dataset in.

    Raises:
        ValueError: If another dataset is registered under the name, or the ignore index is out of range.
    """
    if not 0 <= ignore_value < 2**16:
        raise ValueError(f"ignore_value must be in 0..65535. Received: ignore_value={ignore_value}")
    source = CocoSource(
        locate_data(json, key="json"),
        locate_data(images, key="images"),
        background=background,
        ignore_value=ignore_value,
    )
    catalog.register(name, source, source.meta)


def _record(image: CocoImage) -> list[object]:
    regions = [[region.annotation_id, region.value, region.is_crowd, region.segmentation] for region in image.regions]
    return [image.image_id, image.file_name, image.height, image.width, regions]


def _image(record: list[Any]) -> CocoImage:
    image_id, file_name, height, width, regions = record
    return CocoImage(image_id, file_name, height, width, [Region(*region) for region in regions])
