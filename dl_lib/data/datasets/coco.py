"""Data sets annotated in COCO's format, instances or stuff, as label maps."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dl_lib.data.catalog import Catalog, DatasetCatalog, DatasetMeta, voc_colormap
from dl_lib.data.datasets.coco_file import CocoFile, CocoImage, read_coco
from dl_lib.data.datasets.coco_regions import Region, rasterize_regions
from dl_lib.data.errors import DataError, InvalidSampleError, MissingDataError
from dl_lib.data.files import ensure_exists, resolve_path
from dl_lib.data.raw_dataset import RawSample, fingerprint_files
from dl_lib.data.reading import read_image
from dl_lib.data.serialized_list import SerializedList

__all__ = ["CocoSemSeg", "CocoSource", "register_coco_sem_seg"]

_LAYOUT = "an annotation file in COCO's format, and a folder with the images that it names"


class CocoSemSeg:
    """A map-style data set whose labels are painted from annotations when they are asked for.

    Args:
        images: in the order of the samples.
        folder: in which the images lie.
        unlabelled: the label of pixels without annotation.
        label_type: of the labels.
    """

    def __init__(self, images: Iterable[CocoImage], *, folder: Path, unlabelled: int, label_type: np.dtype) -> None:
        self._records = SerializedList(_record(image) for image in images)
        self._folder = folder
        self._unlabelled = unlabelled
        self._label_type = label_type

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int) -> RawSample:
        record = _image(self._records[index])
        path = str(self._folder / record.file_name)
        image = read_image(path)
        if image.shape[:2] != (record.height, record.width):
            raise InvalidSampleError(
                f"image {record.image_id!r} ({path}) must have the {record.height} x {record.width} pixels (height x "
                f"width) that its annotation file gives. Received: {image.shape[0]} x {image.shape[1]} pixels"
            )
        label = np.full(image.shape[:2], self._unlabelled, self._label_type)
        try:
            rasterize_regions(label, record.regions)
        except InvalidSampleError as error:
            raise InvalidSampleError(f"image {record.image_id!r} ({path}), {error}") from None
        return {"image": image, "sem_seg": label, "image_id": record.image_id, "file_name": path}

    def file_name(self, index: int) -> str:
        """See `dl_lib.data.raw_dataset.HasFileName`."""
        return str(self._folder / _image(self._records[index]).file_name)

    def fingerprint(self) -> str:
        """See `dl_lib.data.raw_dataset.HasFingerprint`."""
        paths = (self.file_name(index) for index in range(len(self)))
        return fingerprint_files(paths, extra=f"{self._records.digest()} {self._unlabelled} {self._label_type}")


@dataclass(frozen=True)
class CocoSource:
    """Where annotations and images lie, and what becomes of them; called, it reads the annotation file.

    Args:
        annotations: file; a relative path is one below the data sets' root.
        images: folder, likewise.
        background: name of class 0, of the pixels without annotation; None ignores them.
        ignore_value: the label of crowds and of what else is ignored, 0..65535.
    """

    annotations: str
    images: str
    background: str | None
    ignore_value: int

    def __call__(self) -> CocoSemSeg:
        """The data set.

        Raises:
            MissingDataError: if the file or the folder is not there, or there are no images.
            UnreadableFileError: if the file is not in COCO's format.
            DataError: if what it says contradicts itself.
        """
        folder = ensure_exists(resolve_path(self.images), layout=_LAYOUT)
        content = self._read()
        if not content.images:
            raise MissingDataError(f"{self.annotations} lists no images. Received: images=[]")
        return CocoSemSeg(
            content.images,
            folder=folder,
            unlabelled=self.ignore_value if self.background is None else 0,
            label_type=np.min_scalar_type(max(self.ignore_value, self._meta(content).num_classes - 1)),
        )

    def meta(self) -> DatasetMeta:
        """The classes: the background, where it is one, and then the categories; raises as a call does."""
        return self._meta(self._read())

    def _read(self) -> CocoFile:
        path = ensure_exists(resolve_path(self.annotations), layout=_LAYOUT)
        return read_coco(path, first_label=0 if self.background is None else 1, crowd_label=self.ignore_value)

    def _meta(self, content: CocoFile) -> DatasetMeta:
        names = content.category_names if self.background is None else (self.background, *content.category_names)
        try:
            return DatasetMeta(names, voc_colormap(len(names)), ignore_value=self.ignore_value)
        except ValueError as error:
            raise DataError(f"the categories of {self.annotations} cannot be the classes: {error}") from error


def register_coco_sem_seg(
    name: str,
    *,
    json: str | os.PathLike[str],
    images: str | os.PathLike[str],
    background: str | None = "background",
    ignore_value: int = 255,
    catalog: Catalog = DatasetCatalog,
) -> None:
    """Register images with annotations in COCO's format as a data set for semantic segmentation.

    Categories become classes in the order of their ids, from 1 on, or from 0 on without a background. Where regions
    overlap, the one with fewer pixels is seen. Crowds are ignored, except where something is annotated by itself.

    The annotation file is read when the data set is made, and once more when its classes are asked for.

    Args:
        name: for `DATASETS.TRAIN` and `DATASETS.TEST`.
        json: the annotation file; a relative path is one below the data sets' root.
        images: the folder that its file names are relative to, likewise.
        background: name of class 0, of the pixels without annotation; None ignores them.
        ignore_value: the label of what is ignored.
        catalog: where to register it.

    Raises:
        ValueError: if another data set has the name, or the ignore value fits no label map.
    """
    if not 0 <= ignore_value < 2**16:
        raise ValueError(f"the ignore value must be in 0..65535. Received: ignore_value={ignore_value}")
    source = CocoSource(os.fspath(json), os.fspath(images), background=background, ignore_value=ignore_value)
    catalog.register(name, source, source.meta)


def _record(image: CocoImage) -> list[object]:
    regions = [[one.annotation_id, one.value, one.is_crowd, one.segmentation] for one in image.regions]
    return [image.image_id, image.file_name, image.height, image.width, regions]


def _image(record: list[Any]) -> CocoImage:
    image_id, file_name, height, width, regions = record
    return CocoImage(image_id, file_name, height, width, [Region(*region) for region in regions])
