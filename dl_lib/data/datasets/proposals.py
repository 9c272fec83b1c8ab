"""Entries of `DATASETS.FOLDERS` proposed for files that do not fit the current entry."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from itertools import groupby
from typing import Any

import numpy as np
import yaml

from dl_lib.config.values import escape_value
from dl_lib.data.catalog import Color, voc_colormap
from dl_lib.data.datasets.folder import FolderSource
from dl_lib.data.datasets.folder_files import list_roots
from dl_lib.data.datasets.layout_hints import infer_patterns
from dl_lib.data.errors import ColorLabelError, DataError
from dl_lib.data.files import FileRecord, PairedFiles, evenly_spaced
from dl_lib.data.label_conversion import ColorReader, IdReader, count_colors, count_ids
from dl_lib.data.label_map import IGNORE
from dl_lib.data.reading import read_color_label, read_label
from dl_lib.utils.names import joined

__all__ = ["Proposal", "propose_entry"]

_MAX_FILES = 200  # label files to read, evenly spaced
_MAX_VALUES = 256  # ids or colors; more are instance ids or interpolated colors
_MAX_OTHER_IDS = 32  # besides the classes; more come from interpolation, JPEG compression or instances
_MAX_SHOWN = 12


@dataclass(frozen=True)
class Proposal:
    """Proposed element of `DATASETS.FOLDERS` that matches the image and label files on disk.

    Attributes:
        reasons: Why the current element does not match.
        entry: YAML of the proposed element.
    """

    reasons: tuple[str, ...]
    entry: str


def propose_entry(name: str, source: FolderSource) -> Proposal | None:
    """Return an entry that fits the files of a labelled dataset; None if the current one does or none is found.

    The assignment of ids and colors to classes is in ascending order, so it must be checked.

    Args:
        name: Name of the dataset.
        source: Current arguments.

    Raises:
        DataError: If the folders cannot be listed.
    """
    reasons = []
    paired = _pairs(source)
    if (proposed := _with_inferred_patterns(source, paired)) is not None:
        reasons.append("images and labels have other file names")
        source, paired = proposed, _pairs(proposed)
    # A map cannot refer to a class with the name of ignored pixels.
    records = () if IGNORE in source.classes else paired.records
    ids, colors = _count_values(records, has_colors=source.color_map is not None)
    if 0 < len(colors) <= _MAX_VALUES and (color_map := _color_map(colors, source)):
        reasons.append(f"labels contain the colors {_with_percentages(colors)}")
        source = replace(source, color_map=color_map, label_map=None, reduce_zero=False)
    elif len(ids) <= _MAX_VALUES and (settings := _id_settings(ids, source)):
        reasons.append(f"labels contain the ids {_with_percentages(ids)}")
        source = replace(source, **{"label_map": None, "reduce_zero": False, **settings})
    return Proposal(tuple(reasons), _entry(name, source)) if reasons else None


def _pairs(source: FolderSource) -> PairedFiles:
    return list_roots(source.roots(), images=source.image_files, labels=source.label_files)


def _with_inferred_patterns(source: FolderSource, paired: PairedFiles) -> FolderSource | None:
    """Return the source with patterns that pair more files, or None."""
    if not (paired.without_label or paired.without_image):
        return None
    found = infer_patterns(source.roots()[0])
    if found is None or not found.labels_are_readable:
        return None
    proposed = replace(source, image_pattern=found.images, label_pattern=found.labels, label_suffix="")
    return proposed if len(_pairs(proposed).records) > len(paired.records) else None


def _count_values(records: Sequence[FileRecord], *, has_colors: bool) -> tuple[Counter[int], Counter[Color]]:
    """Return the number of pixels of each raw id and of each color in a sample of the label files."""
    ids, colors = Counter[int](), Counter[Color]()
    for record in evenly_spaced(records, limit=_MAX_FILES):
        try:
            label = _raw_label(record.label, has_colors=has_colors)
        except DataError:  # reported by the check of the dataset
            continue
        if label.ndim == 3:
            colors += count_colors(label)
        else:
            ids += count_ids(label)
    return ids, colors


def _raw_label(path: str, *, has_colors: bool) -> np.ndarray:
    try:
        return read_color_label(path) if has_colors else read_label(path)
    except ColorLabelError:
        return read_color_label(path)


def _id_settings(ids: Mapping[int, int], source: FolderSource) -> dict[str, Any] | None:
    """Return `label_map` or `reduce_zero` for the raw ids, or None if they fit."""
    found, names = sorted(ids), source.classes
    reader = source.label_reader()
    if isinstance(reader, IdReader):
        unlisted = [v for v in found if not any(first <= v <= last for first, last, _ in reader.ranges)]
        listed = source.label_map or {0: IGNORE, **dict(enumerate(names, start=1))}
        return {"label_map": {**listed, **_in_ranges(dict.fromkeys(unlisted, IGNORE))}} if unlisted else None
    if set(found) <= {*range(len(names)), source.ignore_value}:
        is_binary = len(names) == 2 and found == [0, source.ignore_value]
        return {"label_map": dict(zip(found, names, strict=True))} if is_binary else None
    others = [value for value in found if value != source.ignore_value]
    ignored = {value: IGNORE for value in found if value == source.ignore_value}
    if set(others) <= set(range(len(names) + 1)):
        return {"reduce_zero": True}
    if len(others) == len(names):
        return {"label_map": {**dict(zip(others, names, strict=True)), **ignored}}
    if len(found) == len(names):
        return {"label_map": dict(zip(found, names, strict=True))}
    has_all_classes = set(range(len(names))) <= set(others)
    if len(others) == len(names) + 1 and others[0] == 0 and not has_all_classes:
        return {"label_map": {0: IGNORE, **dict(zip(others[1:], names, strict=True)), **ignored}}
    if len(found) > len(names) + _MAX_OTHER_IDS:
        return None
    labels = {value: names[value] if 0 <= value < len(names) else IGNORE for value in found}
    return {"label_map": _in_ranges(labels)}


def _in_ranges(labels: Mapping[int, str]) -> dict[Any, str]:
    """Return a label map in which consecutive ids of the same class are a range."""
    grouped: dict[Any, str] = {}
    for (_, label), group in groupby(
        enumerate(sorted(labels.items())), key=lambda item: (item[1][0] - item[0], item[1][1])
    ):
        values = [value for _, (value, _) in group]
        grouped[values[0] if len(values) == 1 else f"{values[0]}-{values[-1]}"] = label
    return grouped


def _color_map(colors: Mapping[Color, int], source: FolderSource) -> dict[str, Any] | None:
    """Return a map from color to class, or None if the colors fit."""
    known: dict[Color, Any] = {}
    if source.color_map is not None:
        reader = source.label_reader()
        assert isinstance(reader, ColorReader)
        known = {
            color: IGNORE if label == source.ignore_value else source.classes[label] for color, label in reader.colors
        }
        if colors.keys() <= known.keys():
            return None
    elif source.colors is not None and colors.keys() <= set(source.colors):
        known = dict(zip(source.colors, source.classes, strict=True))
    voc = {color: index for index, color in enumerate(voc_colormap(256))}
    ordered = sorted(colors.keys() - known.keys(), key=lambda color: (voc.get(color, 256), sum(color), color))
    free = [] if known else source.classes
    known |= {color: free[index] if index < len(free) else IGNORE for index, color in enumerate(ordered)}
    return {", ".join(map(str, color)): label for color, label in known.items()}


def _entry(name: str, source: FolderSource) -> str:
    values: dict[str, Any] = {"NAME": name}
    for field in fields(source):
        value = getattr(source, field.name)
        if value != field.default:
            values[field.name.upper()] = _as_lists(value)
    entries = escape_value([values], key="DATASETS.FOLDERS")
    return yaml.safe_dump(entries, default_flow_style=None, sort_keys=False, allow_unicode=True, width=100).rstrip()


def _as_lists(value: Any) -> Any:
    return [_as_lists(item) for item in value] if isinstance(value, (list, tuple)) else value


def _with_percentages(counts: Counter[Any]) -> str:
    total = counts.total()
    return joined([f"{value} ({100 * counts[value] / total:.3g} %)" for value in sorted(counts)], limit=_MAX_SHOWN)
