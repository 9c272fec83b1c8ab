"""Metadata of exported files: classes, preprocessing, inputs and outputs, as JSON inside the file."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from typing import Any, Literal, get_args

import numpy as np
from torch import Tensor

from dl_lib.checkpoint.errors import CheckpointError
from dl_lib.config.choices import ChannelOrder, ResizeBackend
from dl_lib.data.catalog import Color, DatasetMeta
from dl_lib.data.transforms.augmentations import ResizeShortestEdge
from dl_lib.modeling.dynamic.lattice import Lattice
from dl_lib.modeling.dynamic.route import Route
from dl_lib.modeling.dynamic.routing import Routing, Unreached

__all__ = [
    "INPUT_NAME",
    "LABELS",
    "LOGITS",
    "METADATA_KEY",
    "EvaluationResize",
    "ExportMetadata",
    "Precision",
    "versions",
]

METADATA_KEY = "dl_lib"  # of the JSON among the properties of a file
FORMAT_VERSION = 1
INPUT_NAME = "image"
LABELS, LOGITS = "labels", "logits"  # first output with and without preprocessing
_ROUTED_OUTPUTS = ("gates", "real_gflops")

Precision = Literal["float32", "fp16", "int8"]
_MAX_BYTES = 2**22  # several times the metadata of the largest lattice
_MAX_CLASSES = 2**16
_MAX_LAYERS = 1024
_MAX_SIDE_PX = 2**16


@dataclass(frozen=True)
class EvaluationResize:
    """Resize of the images in evaluation (`INPUT.MIN_SIZE_TEST`), which is not part of the file.

    Attributes:
        short_edge_px: Length of the shorter edge.
        max_size_px: Largest length of the longer edge.
        backend: Library that resizes.
    """

    short_edge_px: int
    max_size_px: int
    backend: ResizeBackend

    @property
    def augmentation(self) -> ResizeShortestEdge:
        """The resize as a transform of the data pipeline."""
        return ResizeShortestEdge((self.short_edge_px,), self.max_size_px, self.backend)

    def keeps(self, size: tuple[int, int]) -> bool:
        """Return whether images of a size (height, width) in pixels keep it."""
        resize = self.augmentation.get_transform(np.random.default_rng(0), size=size)
        return (resize.height, resize.width) == size


@dataclass(frozen=True)
class ExportMetadata:
    """Properties of an exported file.

    Attributes:
        class_names: Names of the classes 0, 1, …
        class_colors: (red, green, blue) of each class, 0..255.
        channel_order: Channel order of the network's input.
        pixel_mean: Mean of each channel in that order, for values in 0..255.
        pixel_std: Standard deviation of each channel.
        test_resize: Resize before the network; None if images keep their size.
        size: Height and width of the input in pixels; None for any size.
        size_divisor: Divisor of both sides of the input; 1 if the file pads them.
        with_preprocessing: Input `image` (N, H, W, 3) uint8 RGB and output `labels` (N, H, W), instead of normalized
            images (N, 3, H, W) and `logits` (N, classes, H, W).
        dynamic: Whether each image decides which parts run.
        precision: Precision of the weights.
        cells_per_layer: Lattice of the output `gates` (`CELL_NUM_LIST`); empty without this output.
        unreached: Policy of the network for cells without an input.
        route: Entries of a route that is partly fixed, as in `Route.entries`; empty if all gates are learned.
        config_digest: SHA-256 of the config of the run; empty if it has none.
        versions: Versions of the libraries that wrote the file.
    """

    class_names: tuple[str, ...]
    class_colors: tuple[Color, ...]
    channel_order: ChannelOrder
    pixel_mean: tuple[float, ...]
    pixel_std: tuple[float, ...]
    test_resize: EvaluationResize | None
    size: tuple[int, int] | None
    size_divisor: int
    with_preprocessing: bool
    dynamic: bool
    precision: Precision
    cells_per_layer: tuple[int, ...] = ()
    unreached: str = Unreached.SKIP.value
    route: tuple[str, ...] = ()
    config_digest: str = ""
    versions: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @cached_property
    def meta(self) -> DatasetMeta:
        """Classes and their colors."""
        return DatasetMeta(self.class_names, self.class_colors, ignore_value=-1)

    @cached_property
    def lattice(self) -> Lattice | None:
        """Lattice of the output `gates`; None without this output."""
        return Lattice(self.cells_per_layer) if self.cells_per_layer else None

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the outputs in their order."""
        return (LABELS if self.with_preprocessing else LOGITS, *(_ROUTED_OUTPUTS if self.dynamic else ()))

    @property
    def test_augmentations(self) -> tuple[ResizeShortestEdge, ...]:
        """Transforms of the images in evaluation."""
        return () if self.test_resize is None else (self.test_resize.augmentation,)

    def routing(self, gates_BE: Tensor) -> Routing:
        """Return the routing of images with the values of the output `gates`."""
        return Routing.of_gates(self._route, gates_BE, unreached=Unreached(self.unreached))

    @cached_property
    def _route(self) -> Route:
        assert self.lattice is not None, "only dynamic networks have gates"
        return Route.parse(self.lattice, self.route) if self.route else Route.whole(self.lattice, gated=True)

    @property
    def edges(self) -> tuple[str, ...]:
        """Names of the edges in the order of the output `gates`."""
        return () if self.lattice is None else tuple(map(str, self.lattice.edges))

    def to_json(self) -> str:
        """Return the metadata as JSON."""
        derived = {"format_version": FORMAT_VERSION, "inputs": [INPUT_NAME], "outputs": self.outputs}
        values = derived | {"edges": self.edges} | dataclasses.asdict(self)
        return json.dumps(values, ensure_ascii=False, allow_nan=False)

    @classmethod
    def from_json(cls, text: str | bytes, *, path: str) -> ExportMetadata:
        """Read metadata; `path` is named in messages.

        Raises:
            CheckpointError: If they are not those of a file that `dl_lib export` writes.
        """
        try:
            return _parse(text)
        except (KeyError, TypeError, ValueError, ArithmeticError, RecursionError) as error:
            raise CheckpointError(
                "the metadata of an exported file must be those that dl_lib export writes; export the run again with "
                f"this version. Received: path={path!r}, {type(error).__name__}: {error}"[:1000]
            ) from error


def versions() -> dict[str, str]:
    """Return the versions of the libraries that export."""
    return {name: version(name) for name in ("dl_lib", "torch")}


def _parse(text: str | bytes) -> ExportMetadata:
    if len(text) > _MAX_BYTES:
        raise ValueError(f"more than {_MAX_BYTES:,} bytes")
    values = {"route": []} | json.loads(text)  # earlier files do not state it
    if not _is_int(FORMAT_VERSION, FORMAT_VERSION)(values["format_version"]):
        raise ValueError(f"format_version must be {FORMAT_VERSION}")
    for name, is_valid in _RULES.items():
        if not is_valid(values[name]):
            raise ValueError(f"{name} has an invalid value")
    fields: dict[str, Any] = {field.name: _as_field(values[field.name]) for field in dataclasses.fields(ExportMetadata)}
    if fields["test_resize"] is not None:
        fields["test_resize"] = EvaluationResize(**fields["test_resize"])
    found = ExportMetadata(**fields)
    _check_consistency(found, outputs=values["outputs"])
    return found


def _as_field(value: Any) -> Any:
    """Return a value of JSON with tuples in place of lists."""
    return tuple(map(_as_field, value)) if isinstance(value, list) else value


def _check_consistency(metadata: ExportMetadata, *, outputs: Any) -> None:
    """Check values that depend on each other; raises ValueError."""
    _ = metadata.meta
    if outputs != list(metadata.outputs):
        raise ValueError(f"outputs must be {', '.join(metadata.outputs)}")
    if metadata.dynamic != bool(metadata.edges):
        raise ValueError("cells_per_layer must be given for dynamic networks, and only for these")
    if metadata.dynamic:
        _ = metadata._route
    elif metadata.route:
        raise ValueError("route must be given for dynamic networks only")


def _is_int(low: int, high: int) -> Callable[[Any], bool]:
    return lambda value: type(value) is int and low <= value <= high


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_list(is_item: Callable[[Any], bool], *, low: int = 0, high: int = _MAX_CLASSES) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list) and low <= len(value) <= high and all(map(is_item, value))


def _is_one_of(literal: Any) -> Callable[[Any], bool]:
    return lambda value: _is_text(value) and value in get_args(literal)


def _is_none_or(is_valid: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: value is None or is_valid(value)


def _is_bool(value: Any) -> bool:
    return isinstance(value, bool)


def _is_resize(value: Any) -> bool:
    edges = ("short_edge_px", "max_size_px")
    return (
        isinstance(value, dict)
        and value.keys() == {*edges, "backend"}
        and all(_is_side(value[edge]) for edge in edges)
        and _is_one_of(ResizeBackend)(value["backend"])
    )


def _are_texts(value: Any) -> bool:
    return isinstance(value, dict) and all(map(_is_text, value.values()))


_is_side = _is_int(1, _MAX_SIDE_PX)

_RULES: dict[str, Callable[[Any], bool]] = {
    "class_names": _is_list(_is_text, low=1),
    "class_colors": _is_list(_is_list(_is_int(0, 255), low=3, high=3), low=1),
    "channel_order": _is_one_of(ChannelOrder),
    "pixel_mean": _is_list(_is_number, low=3, high=3),
    "pixel_std": _is_list(lambda value: _is_number(value) and value > 0, low=3, high=3),
    "test_resize": _is_none_or(_is_resize),
    "size": _is_none_or(_is_list(_is_side, low=2, high=2)),
    "size_divisor": _is_side,
    "with_preprocessing": _is_bool,
    "dynamic": _is_bool,
    "precision": _is_one_of(Precision),
    "cells_per_layer": _is_list(_is_int(1, 16), high=_MAX_LAYERS),
    "unreached": lambda value: value in [policy.value for policy in Unreached],
    "route": _is_list(_is_text),
    "config_digest": _is_text,
    "versions": _are_texts,
}
