"""Datasets declared in a config: entries of `DATASETS.FOLDERS`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dl_lib.config import CfgNode, ConfigError
from dl_lib.config.entries import EntryKey, entry_problems
from dl_lib.data.catalog import Catalog, DatasetCatalog, DatasetMeta
from dl_lib.data.datasets.folder import FolderSource, frozen
from dl_lib.utils.names import NAME_RULE, is_safe_name

__all__ = ["ENTRY_KEYS", "ConfiguredFolders", "configured_meta", "parse_folders", "register_folders"]


@dataclass(frozen=True)
class ConfiguredFolders:
    """Parsed entries of `DATASETS.FOLDERS`.

    Attributes:
        sources: Valid entries by name.
        names: Names of all entries, including invalid ones.
        problems: Problems of the invalid entries, one line each.
    """

    sources: Mapping[str, FolderSource]
    names: frozenset[str]
    problems: tuple[str, ...]


def parse_folders(entries: Sequence[Any], *, catalog: Catalog = DatasetCatalog) -> ConfiguredFolders:
    """Check every entry without registering it; its name must not belong to another dataset of the catalog."""
    sources: dict[str, FolderSource] = {}
    names: set[str] = set()
    problems: list[str] = []
    for index, entry in enumerate(entries):
        location = f"DATASETS.FOLDERS[{index}]"
        found = entry_problems(entry, name=location, keys=ENTRY_KEYS)
        name: Any = entry.get("NAME") if isinstance(entry, Mapping) else None
        received = f"Received: {location}.NAME={name!r}"
        if not found:
            try:
                source = _source(entry)
            except ValueError as error:  # values that are inconsistent with each other
                found = [f"{location}: {error}"]
            else:
                if name in names:
                    found = [f"{location}.NAME must be unique. {received}"]
                elif not catalog.accepts(name, source, source.meta):
                    found = [f"{location}.NAME must not be the name of another registered dataset. {received}"]
                else:
                    sources[name] = source
        problems += found
        if isinstance(name, str):
            names.add(name)
    return ConfiguredFolders(sources, frozenset(names), tuple(problems))


def register_folders(entries: Sequence[Any], *, catalog: Catalog = DatasetCatalog) -> None:
    """Register the valid entries of `DATASETS.FOLDERS`; `validate_config` reports the others.

    Entries that are already registered have no effect.
    """
    for name, source in parse_folders(entries, catalog=catalog).sources.items():
        catalog.register(name, source, source.meta)


def configured_meta(cfg: CfgNode) -> DatasetMeta:
    """Return the metadata of the first dataset of a config, which name the classes of its model.

    An entry of `DATASETS.FOLDERS` takes precedence over a registered dataset, which may belong to another config.

    Raises:
        ConfigError: If the config names no dataset.
        UnknownDatasetError: If the dataset is neither an entry nor registered.
    """
    names = [*cfg.DATASETS.TEST, *cfg.DATASETS.TRAIN]
    if not names:
        raise ConfigError(
            "DATASETS.TEST names the classes of the model and must not be empty; add the dataset of its training. "
            "Received: DATASETS.TEST=[], DATASETS.TRAIN=[]"
        )
    sources = parse_folders(cfg.DATASETS.FOLDERS, catalog=Catalog()).sources
    return sources[names[0]].meta if names[0] in sources else DatasetCatalog.meta(names[0])


def _source(entry: Mapping[str, Any]) -> FolderSource:
    arguments = {key.lower(): frozen(value) for key, value in entry.items() if key != "NAME"}
    return FolderSource(**{"labels": None, **arguments})


def _is_str(value: Any) -> bool:
    return isinstance(value, str)


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and bool(value)


def _is_bool(value: Any) -> bool:
    return isinstance(value, bool)


def _is_label(value: Any) -> bool:
    return type(value) is int and -(2**15) <= value < 2**16


def _are_names(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(map(_is_name, value))


def _are_paths(value: Any) -> bool:
    return _is_name(value) or _are_names(value)


def _are_colors(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(color, list)
        and len(color) == 3
        and all(type(channel) is int and 0 <= channel <= 255 for channel in color)
        for color in value
    )


def _is_mapping(value: Any) -> bool:
    return isinstance(value, Mapping) and bool(value)


def _is_color_map(value: Any) -> bool:
    return _is_name(value) or _is_mapping(value) or (isinstance(value, list) and bool(value))


ENTRY_KEYS = {
    "NAME": EntryKey(is_safe_name, f"a name to use in DATASETS.TRAIN and DATASETS.TEST: {NAME_RULE}", required=True),
    "IMAGES": EntryKey(_are_paths, "the path of a folder, or a list of paths", required=True),
    "LABELS": EntryKey(
        _are_paths, "the path of a folder, or a list with one path for each of IMAGES; omit it if there are no labels"
    ),
    "SPLIT": EntryKey(_are_paths, "the path of a text file with one image name per line, one for each of IMAGES"),
    "IMAGE_PATTERN": EntryKey(_is_name, "a file name such as '{name}_sat.jpg'"),
    "LABEL_PATTERN": EntryKey(_is_name, "a file name such as '{name}_mask.png'"),
    "LABEL_SUFFIX": EntryKey(_is_str, "text, such as _mask"),
    "LABEL_MAP": EntryKey(_is_mapping, "a mapping such as {0: ignore, 1-5: CLASS, 7: 1}"),
    "REDUCE_ZERO": EntryKey(_is_bool, "True or False"),
    "COLOR_MAP": EntryKey(
        _is_color_map,
        "a list of [red, green, blue] in class order, a mapping such as {'128, 64, 128': CLASS, '#000000': ignore}, or "
        "the path of a palette file",
    ),
    "CLASSES": EntryKey(_are_names, "a list of names (quote names such as 'yes' or 'no')", required=True),
    "COLORS": EntryKey(_are_colors, "a list of [red, green, blue], each 0 to 255"),
    "IGNORE_VALUE": EntryKey(_is_label, "an integer from -32768 to 65535"),
}
