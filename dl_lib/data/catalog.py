"""Dataset catalog: dataset constructors and metadata by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from dl_lib.data.errors import DataError, UnknownDatasetError
from dl_lib.data.raw_dataset import RawDataset
from dl_lib.utils.names import NAME_RULE, is_safe_name, nearest_names

__all__ = ["MAX_UINT8_CLASSES", "Benchmark", "Catalog", "Color", "DatasetCatalog", "DatasetMeta", "voc_colormap"]

MAX_UINT8_CLASSES = 256  # class indices are uint8 up to this number of classes

Benchmark = Literal["", "cityscapes", "voc"]
Color = tuple[int, int, int]


@dataclass(frozen=True)
class DatasetMeta:
    """Metadata of a dataset.

    Args:
        class_names: Names of the classes 0, 1, ...
        class_colors: (red, green, blue) of each class, 0..255.
        ignore_value: Ignore index, excluded from loss and evaluation.
        labelled: Whether the dataset has ground truth for training or evaluation.
        benchmark: Benchmark whose official prediction format and scores apply; "" for none.
        sparse: Whether most pixels may be ignored by design, as with coarse annotations or scribbles.

    Raises:
        ValueError: If class names repeat, the number of colors differs from that of classes, or the ignore index is a
            class id.
    """

    class_names: tuple[str, ...]
    class_colors: tuple[Color, ...]
    ignore_value: int = 255
    labelled: bool = True
    benchmark: Benchmark = ""
    sparse: bool = False

    def __post_init__(self) -> None:
        if len(set(self.class_names)) != len(self.class_names):
            raise ValueError(f"class_names must be unique. Received: class_names={self.class_names}")
        if len(self.class_colors) != self.num_classes:
            raise ValueError(
                f"class_colors must have one color for each of the {self.num_classes} classes. "
                f"Received: {len(self.class_colors)} colors, class_colors={self.class_colors}"
            )
        if 0 <= self.ignore_value < self.num_classes:
            raise ValueError(
                f"ignore_value must not be one of the class ids 0..{self.num_classes - 1}. "
                f"Received: ignore_value={self.ignore_value}"
            )

    @property
    def num_classes(self) -> int:
        return len(self.class_names)


Loader = Callable[[], RawDataset]
MetaSource = DatasetMeta | Callable[[], DatasetMeta]


@dataclass(frozen=True)
class _Entry:
    loader: Loader
    meta: MetaSource


class Catalog:
    """Registry of datasets. A dataset is constructed at each `get`, never at registration."""

    def __init__(self) -> None:
        self._entries: dict[str, _Entry] = {}
        self._loaded_metas: dict[str, DatasetMeta] = {}

    def register(self, name: str, loader: Loader, meta: MetaSource) -> None:
        """Register a dataset. Registering an equal entry again has no effect.

        Args:
            name: Name for `DATASETS.TRAIN` and `DATASETS.TEST`, which also becomes part of file names.
            loader: Function without arguments that constructs the dataset; no file is read before the call.
            meta: Metadata, or a function that reads them from a file when they are first needed.

        Raises:
            DataError: If the name cannot be part of a file name.
            ValueError: If another dataset is registered under the name.
        """
        if not is_safe_name(name):
            raise DataError(
                f"the name of a dataset must be {NAME_RULE}, as it becomes part of file names; choose another name. "
                f"Received: name={name!r:.200}"
            )
        if not self.accepts(name, loader, meta):
            raise ValueError(
                "another dataset is registered under this name; choose another name or register it in one place only. "
                f"Received: name={name!r}"
            )
        self._entries[name] = _Entry(loader, meta)

    def accepts(self, name: str, loader: Loader, meta: MetaSource) -> bool:
        """Return whether a name is unused or registered with an equal loader and equal metadata."""
        return self._entries.get(name, _Entry(loader, meta)) == _Entry(loader, meta)

    def get(self, name: str) -> RawDataset:
        """Construct a dataset.

        Raises:
            UnknownDatasetError: If the name is not registered.
        """
        return self._entry(name).loader()

    def loader(self, name: str) -> Loader:
        """Return the registered function that constructs a dataset.

        Raises:
            UnknownDatasetError: If the name is not registered.
        """
        return self._entry(name).loader

    def meta(self, name: str) -> DatasetMeta:
        """Return the metadata of a dataset without constructing the dataset.

        Raises:
            UnknownDatasetError: If the name is not registered.
            DataError: If the metadata are stored in a file that cannot be read.
        """
        meta = self._entry(name).meta
        if isinstance(meta, DatasetMeta):
            return meta
        if name not in self._loaded_metas:
            self._loaded_metas[name] = meta()
        return self._loaded_metas[name]

    def names(self) -> tuple[str, ...]:
        """Return all registered names, sorted."""
        return tuple(sorted(self._entries))

    def _entry(self, name: str) -> _Entry:
        if name in self._entries:
            return self._entries[name]
        raise UnknownDatasetError(
            f"no dataset is registered under this name; {nearest_names(name, self._entries)}. List it in "
            f"DATASETS.FOLDERS of the config or register it in the net.py next to it; commands read both if the config "
            f"is given with --config-file. "
            f"Received: name={name!r}"
        )


DatasetCatalog = Catalog()


def voc_colormap(num_colors: int) -> tuple[Color, ...]:
    """Return the PASCAL VOC colormap, whose first 2^24 colors are unique.

    As in the VOC development kit (http://host.robots.ox.ac.uk/pascal/VOC/voc2012/), the bits of an id go to red, green
    and blue in turn, least significant first, and each channel is filled from its most significant bit.
    """
    return tuple((_channel(label), _channel(label >> 1), _channel(label >> 2)) for label in range(num_colors))


def _channel(bits: int) -> int:
    return sum((bits >> 3 * position & 1) << 7 - position for position in range(8))
