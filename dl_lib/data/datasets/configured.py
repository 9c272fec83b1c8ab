"""Data sets that a config brings itself, in `DATASETS.FOLDERS`: a list of entries with the keys of `_KEYS`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dl_lib.data.catalog import Catalog, DatasetCatalog
from dl_lib.data.datasets.folder import FolderSource
from dl_lib.utils.names import nearest_names

__all__ = ["ConfiguredFolders", "parse_folders", "register_folders"]


@dataclass(frozen=True)
class ConfiguredFolders:
    """What `DATASETS.FOLDERS` says.

    Args:
        sources: by name, of the entries that can be used.
        names: of all entries that have one.
        problems: what is wrong with the other entries, a line for each thing.
    """

    sources: Mapping[str, FolderSource]
    names: frozenset[str]
    problems: tuple[str, ...]


@dataclass(frozen=True)
class _Key:
    """A key of an entry: what its value has to be, and whether it has to be there."""

    fits: Callable[[Any], bool]
    expected: str
    required: bool = False


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and bool(value)


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _are_names(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(map(_is_name, value))


def _are_colors(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(color, list) and len(color) == 3 and all(_is_int(part) and 0 <= part <= 255 for part in color)
        for color in value
    )


_KEYS = {
    "NAME": _Key(_is_name, "a name for DATASETS.TRAIN and DATASETS.TEST", required=True),
    "IMAGES": _Key(_is_name, "the path of a folder", required=True),
    "LABELS": _Key(_is_name, "the path of a folder; leave it out where there are no labels"),
    "LABEL_SUFFIX": _Key(_is_text, "text, such as _mask"),
    "CLASSES": _Key(_are_names, "a list of names (in quotes, what YAML takes for something else)", required=True),
    "COLORS": _Key(_are_colors, "a list of [red, green, blue], each 0..255"),
    "IGNORE_VALUE": _Key(_is_int, "a whole number"),
}


def parse_folders(entries: Sequence[Any], *, catalog: Catalog = DatasetCatalog) -> ConfiguredFolders:
    """Look at every entry; nothing is registered.

    Args:
        entries: the value of `DATASETS.FOLDERS`.
        catalog: where none of the names may stand for something else.
    """
    sources: dict[str, FolderSource] = {}
    names: set[str] = set()
    problems: list[str] = []
    for number, entry in enumerate(entries):
        place = f"DATASETS.FOLDERS[{number}]"
        wrong = _problems(entry, place)
        name: Any = entry.get("NAME") if isinstance(entry, Mapping) else None
        if not wrong:
            source = _source(entry)
            if name in names:
                wrong = [f"{place}: another entry has the same name. Received: {place}.NAME={name!r}"]
            elif not catalog.accepts(name, source, source.meta):
                wrong = [f"{place}: another data set is registered under this name. Received: {place}.NAME={name!r}"]
            else:
                sources[name] = source
        problems += wrong
        if isinstance(name, str):
            names.add(name)
    return ConfiguredFolders(sources, frozenset(names), tuple(problems))


def register_folders(entries: Sequence[Any], *, catalog: Catalog = DatasetCatalog) -> None:
    """Register what can be used of the entries; `validate_config` says what is wrong with the others.

    Args:
        entries: the value of `DATASETS.FOLDERS`; those that are registered already change nothing.
        catalog: where to.
    """
    for name, source in parse_folders(entries, catalog=catalog).sources.items():
        catalog.register(name, source, source.meta)


def _problems(entry: Any, place: str) -> list[str]:
    if not isinstance(entry, Mapping):
        return [f"{place}: a data set is given by keys. Expected {', '.join(_KEYS)}. Received: {place}={entry!r}"]
    wrong = [
        f"{place}: no key has this name; {nearest_names(str(key), _KEYS)}. Received: {place}.{key}={value!r}"
        for key, value in entry.items()
        if key not in _KEYS
    ]
    for name, key in _KEYS.items():
        if name not in entry and key.required:
            wrong.append(f"{place}: {name} is missing. Expected {key.expected}. Received: {place}={dict(entry)!r}")
        elif name in entry and not key.fits(entry[name]):
            wrong.append(f"{place}.{name}: expected {key.expected}. Received: {place}.{name}={entry[name]!r}")
    if wrong:
        return wrong
    try:
        _source(entry)
    except ValueError as error:  # of values that do not go together
        return [f"{place}: {error}"]
    return []


def _source(entry: Mapping[str, Any]) -> FolderSource:
    return FolderSource(
        images=entry["IMAGES"],
        labels=entry.get("LABELS"),
        classes=tuple(entry["CLASSES"]),
        colors=tuple((red, green, blue) for red, green, blue in entry["COLORS"]) if "COLORS" in entry else None,
        ignore_value=entry.get("IGNORE_VALUE", FolderSource.ignore_value),
        label_suffix=entry.get("LABEL_SUFFIX", FolderSource.label_suffix),
    )
