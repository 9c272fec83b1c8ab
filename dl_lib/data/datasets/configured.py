"""Datasets declared in a config: entries of `DATASETS.FOLDERS`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dl_lib.config.entries import EntryKey, entry_problems
from dl_lib.data.catalog import Catalog, DatasetCatalog
from dl_lib.data.datasets.folder import FolderSource
from dl_lib.utils.names import NAME_RULE, is_safe_name

__all__ = ["ConfiguredFolders", "parse_folders", "register_folders"]


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
        found = entry_problems(entry, name=location, keys=_KEYS)
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


def _source(entry: Mapping[str, Any]) -> FolderSource:
    return FolderSource(
        images=entry["IMAGES"],
        labels=entry.get("LABELS"),
        classes=tuple(entry["CLASSES"]),
        colors=tuple((red, green, blue) for red, green, blue in entry["COLORS"]) if "COLORS" in entry else None,
        ignore_value=entry.get("IGNORE_VALUE", FolderSource.ignore_value),
        label_suffix=entry.get("LABEL_SUFFIX", FolderSource.label_suffix),
    )


def _is_str(value: Any) -> bool:
    return isinstance(value, str)


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and bool(value)


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _are_names(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(map(_is_name, value))


def _are_colors(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(color, list)
        and len(color) == 3
        and all(_is_int(channel) and 0 <= channel <= 255 for channel in color)
        for color in value
    )


_KEYS = {
    "NAME": EntryKey(is_safe_name, f"a name to use in DATASETS.TRAIN and DATASETS.TEST: {NAME_RULE}", required=True),
    "IMAGES": EntryKey(_is_name, "the path of a folder", required=True),
    "LABELS": EntryKey(_is_name, "the path of a folder; omit it if there are no labels"),
    "LABEL_SUFFIX": EntryKey(_is_str, "text, such as _mask"),
    "CLASSES": EntryKey(_are_names, "a list of names (quote names such as 'yes' or 'no')", required=True),
    "COLORS": EntryKey(_are_colors, "a list of [red, green, blue], each 0 to 255"),
    "IGNORE_VALUE": EntryKey(_is_int, "an integer"),
}
