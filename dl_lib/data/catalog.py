"""The catalog: data sets by name, listed only when they are asked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol, TypedDict

import numpy as np

from dl_lib.data.errors import UnknownDatasetError
from dl_lib.utils.names import nearest_names

__all__ = ["Benchmark", "Catalog", "DatasetCatalog", "DatasetMeta", "RawDataset", "RawSample"]

Benchmark = Literal["", "cityscapes", "voc"]


class UnlabelledSample(TypedDict):
    """A sample of a data set without ground truth.

    Keys:
        image: (H, W, 3) uint8, channels in RGB order.
        image_id: unique within the data set.
        file_name: where the image was read from; generated images repeat their image_id.
    """

    image: np.ndarray
    image_id: str
    file_name: str


class RawSample(UnlabelledSample, total=False):
    """One sample as a data set gives it, before any mapper.

    Keys:
        sem_seg: (H, W), any integer type: a class of the data set or its ignore value; where the set has labels.
    """

    sem_seg: np.ndarray


class RawDataset(Protocol):
    """A map-style data set of raw samples: same index, same sample."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> RawSample: ...


@dataclass(frozen=True)
class DatasetMeta:
    """What is known of a data set without opening it.

    Args:
        class_names: one name for each label 0, 1, ...
        class_colors: (red, green, blue) of each class, 0..255.
        ignore_value: the label that neither loss nor evaluation looks at.
        labelled: whether it has ground truth to train on or to score against.
        benchmark: whose official files and scores predictions on it can be turned into; "" for none.

    Raises:
        ValueError: if names repeat, colours are not one for each name, or a class has the ignore value.
    """

    class_names: tuple[str, ...]
    class_colors: tuple[tuple[int, int, int], ...]
    ignore_value: int = 255
    labelled: bool = True
    benchmark: Benchmark = ""

    def __post_init__(self) -> None:
        if len(set(self.class_names)) != len(self.class_names):
            raise ValueError(f"class names must differ from each other. Received: class_names={self.class_names}")
        if len(self.class_colors) != self.num_classes:
            raise ValueError(
                f"there must be one colour for each of the {self.num_classes} classes. "
                f"Received: {len(self.class_colors)} colours, class_colors={self.class_colors}"
            )
        if 0 <= self.ignore_value < self.num_classes:
            raise ValueError(
                f"the ignore value must lie outside the classes 0..{self.num_classes - 1}. "
                f"Received: ignore_value={self.ignore_value}"
            )

    @property
    def num_classes(self) -> int:
        return len(self.class_names)


@dataclass(frozen=True)
class _Entry:
    loader: Callable[[], RawDataset]
    meta: DatasetMeta | Callable[[], DatasetMeta]


class Catalog:
    """Names to data sets. The loader of a name runs at each `get`, and never before."""

    def __init__(self) -> None:
        self._entries: dict[str, _Entry] = {}
        self._read_metas: dict[str, DatasetMeta] = {}

    def register(
        self, name: str, loader: Callable[[], RawDataset], meta: DatasetMeta | Callable[[], DatasetMeta]
    ) -> None:
        """Make a data set known; the same one under the same name once more changes nothing.

        Args:
            name: as in `DATASETS.TRAIN` and `DATASETS.TEST`.
            loader: makes the data set; takes nothing, reads nothing until it is called.
            meta: its classes, or where they stand in a file, a function that reads them when they are asked for.

        Raises:
            ValueError: if another data set has the name.
        """
        if not self.accepts(name, loader, meta):
            raise ValueError(
                "a data set of this name is registered already; choose another name, or register it in one place only. "
                f"Received: name={name!r}"
            )
        self._entries[name] = _Entry(loader, meta)

    def accepts(
        self, name: str, loader: Callable[[], RawDataset], meta: DatasetMeta | Callable[[], DatasetMeta]
    ) -> bool:
        """Whether a name is free for a data set, or stands for it already: for one with an equal loader and meta."""
        return self._entries.get(name, _Entry(loader, meta)) == _Entry(loader, meta)

    def get(self, name: str) -> RawDataset:
        """The data set of this name, newly made.

        Raises:
            UnknownDatasetError: if nothing is registered under the name.
        """
        return self._entry(name).loader()

    def meta(self, name: str) -> DatasetMeta:
        """Classes of the data set of this name, without making it.

        Raises:
            UnknownDatasetError: if nothing is registered under the name.
            DataError: if the classes stand in a file and that cannot be read.
        """
        meta = self._entry(name).meta
        if isinstance(meta, DatasetMeta):
            return meta
        if name not in self._read_metas:
            self._read_metas[name] = meta()
        return self._read_metas[name]

    def names(self) -> tuple[str, ...]:
        """All registered names, sorted."""
        return tuple(sorted(self._entries))

    def _entry(self, name: str) -> _Entry:
        if name in self._entries:
            return self._entries[name]
        raise UnknownDatasetError(
            f"no data set is registered under this name; {nearest_names(name, self._entries)}. "
            f"Register it with DatasetCatalog.register, e.g. in the playground folder's net.py. Received: name={name!r}"
        )


DatasetCatalog = Catalog()
