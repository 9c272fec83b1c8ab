"""Parsing of label maps: raw ids or colors to classes, as users write them in YAML or Python."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import dropwhile, pairwise
from pathlib import Path
from typing import Any

from dl_lib.config.errors import shortened, shown
from dl_lib.data.catalog import Color
from dl_lib.data.errors import DataError, UnreadableFileError
from dl_lib.data.files import read_text
from dl_lib.data.label_conversion import ColorReader, IdReader
from dl_lib.utils.names import nearest_names

__all__ = ["IGNORE", "LabelClasses"]

IGNORE = "ignore"  # value of a label map for pixels that are excluded from loss and evaluation

_RANGE = re.compile(r"(-?\d{1,18})(?:\s*-\s*(-?\d{1,18}))?")
_HEX_COLOR = re.compile(r"#([0-9a-fA-F]{2})([0-9a-fA-F]{2})([0-9a-fA-F]{2})")
_TEXT_COLOR = re.compile(r"[(\[]?\s*(\d{1,3})[\s,;]+(\d{1,3})[\s,;]+(\d{1,3})\s*[)\]]?")
_CHANNELS = r"(?P<red>\d{1,3})[\s,;]+(?P<green>\d{1,3})[\s,;]+(?P<blue>\d{1,3})"
_PALETTE_LINE = re.compile(rf"{_CHANNELS}(?:[\s,;]+(?P<name>\S.*))?")  # as in CamVid's label_colors.txt
_CLASS_FIRST_LINE = re.compile(rf"(?P<name>\S.*?)[\s,;:\[(]+{_CHANNELS}(?::.*)?")  # as in class_dict.csv, or by CVAT
_PALETTE_FRAME = " \t,;[](){}"  # of the lines of a list
_MAX_PALETTE_BYTES, _MAX_PALETTE_LINE = 2**20, 200


@dataclass(frozen=True)
class LabelClasses:
    """Classes to which label maps refer by index or name.

    Args:
        names: Names of the classes 0, 1, ...
        ignore_value: Ignore index.
    """

    names: tuple[str, ...]
    ignore_value: int

    def id_reader(self, label_map: Mapping[Any, Any]) -> IdReader:
        """Return the label reader of a map from raw id, or range such as "1-5", to class or "ignore".

        Raises:
            ValueError: If the map is invalid.
        """
        if not isinstance(label_map, Mapping) or not label_map:
            raise ValueError(
                f"label_map must map raw ids to classes, such as {{0: ignore, 1-5: {self.names[0]}}}. "
                f"Received: label_map={shown(label_map)}"
            )
        ranges = sorted(
            (*_id_range(key), self._label(value, f"label_map[{shown(key)}]")) for key, value in label_map.items()
        )
        for (_, last, _), (first, *_) in pairwise(ranges):
            if first <= last:
                raise ValueError(
                    f"label_map must list each raw id once. Received: {first} twice in {shown(dict(label_map))}"
                )
        return IdReader(tuple(ranges), setting="LABEL_MAP")

    def reduced_reader(self) -> IdReader:
        """Return the label reader that ignores 0 and the ignore index, and subtracts 1 from all other ids."""
        last = len(self.names)
        ranges = {(0, 0, self.ignore_value), *((raw, raw, raw - 1) for raw in range(1, last + 1))}
        if not 0 <= self.ignore_value <= last:
            ranges.add((self.ignore_value, self.ignore_value, self.ignore_value))
        return IdReader(tuple(sorted(ranges)), setting="REDUCE_ZERO")

    def color_reader(self, color_map: Sequence[Any] | Mapping[Any, Any]) -> ColorReader:
        """Return the label reader of a list of colors in class order, or of a map from color to class or "ignore".

        Args:
            color_map: Colors as [red, green, blue], "red, green, blue" or "#rrggbb".

        Raises:
            ValueError: If a color or class is invalid, or a color occurs twice.
        """
        if isinstance(color_map, Mapping):
            colors = [_color(color, "color_map") for color in color_map]
            return _reader(colors, [self._label(value, f"color_map[{shown(key)}]") for key, value in color_map.items()])
        return self._in_class_order([_color(color, f"color_map[{index}]") for index, color in enumerate(color_map)])

    def palette_reader(self, path: Path) -> ColorReader:
        """Return the label reader of a palette file: one color `red green blue` per line, with or without class.

        The lines before the first color, such as a header, and those that start with # are skipped. Without classes,
        the colors are in class order.

        Raises:
            DataError: If the file cannot be read or does not fit the classes.
        """
        channels, names = _read_palette(path)
        try:
            colors = [_color(color, str(path)) for color in channels]
            if any(names):
                return _reader(
                    colors, [self._label(name, f"the class of {c}") for c, name in zip(colors, names, strict=True)]
                )
            return self._in_class_order(colors)
        except ValueError as error:
            raise DataError(f"{path} must be a palette of the classes {', '.join(self.names)}: {error}") from error

    def _in_class_order(self, colors: Sequence[Color]) -> ColorReader:
        if len(colors) != len(self.names):
            raise ValueError(
                f"color_map must list a color for each of the {len(self.names)} classes; to ignore some, map "
                f"each color to a class or to ignore. Received: {len(colors)} colors"
            )
        return _reader(colors, range(len(colors)))

    def _label(self, value: Any, location: str) -> int:
        is_id = type(value) is int and (0 <= value < len(self.names) or value == self.ignore_value)
        meanings = {value} if is_id else {self.ignore_value} if value == IGNORE else set()
        if (is_id or isinstance(value, str)) and str(value) in self.names:
            meanings.add(self.names.index(str(value)))
        if len(meanings) == 1:
            return meanings.pop()
        if meanings:
            raise ValueError(
                f"{location} is ambiguous: it is the name of a class, and also {IGNORE!r} or the index of another one; "
                f"quote a name that is a number, or rename the class. Received: {location}={shown(value)}"
            )
        hint = (
            "quote names such as 'yes' or 'no'"
            if isinstance(value, bool)
            else nearest_names(shortened(str(value)), self.names)
        )
        raise ValueError(
            f"{location} must be a class index (0 to {len(self.names) - 1}), a class name or {IGNORE!r}; {hint}. "
            f"Received: {location}={shown(value)}"
        )


def _reader(colors: Sequence[Color], labels: Sequence[int]) -> ColorReader:
    if len(set(colors)) < len(colors) or not colors:
        raise ValueError(f"color_map must list colors, each once. Received: colors={shown(list(colors))}")
    return ColorReader(tuple(zip(colors, labels, strict=True)))


def _id_range(key: Any) -> tuple[int, int]:
    match = _RANGE.fullmatch(str(key).strip()) if type(key) in (int, str) else None
    first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
    if first > last:
        raise ValueError(f"label_map must have keys such as 7 (raw id) or '1-5' (range). Received: key={shown(key)}")
    return first, last


def _color(value: Any, location: str) -> Color:
    channels: Sequence[Any] = value if isinstance(value, (list, tuple)) else ()
    if isinstance(value, str):
        if match := _HEX_COLOR.fullmatch(value.strip()):
            channels = [int(channel, 16) for channel in match.groups()]
        elif match := _TEXT_COLOR.fullmatch(value.strip()):
            channels = [int(channel) for channel in match.groups()]
    if len(channels) != 3 or not all(type(channel) is int and 0 <= channel <= 255 for channel in channels):
        raise ValueError(
            f"{location} must contain colors such as [128, 64, 128], '128, 64, 128' or '#804080', with channels from 0 "
            f"to 255. Received: {shown(value)}"
        )
    return channels[0], channels[1], channels[2]


def _read_palette(path: Path) -> tuple[list[list[int]], list[str | None]]:
    """Return the channels of each color in a palette file and its class, None for a line without class."""
    text = read_text(path, max_bytes=_MAX_PALETTE_BYTES, content="one color per line (COLOR_MAP)")
    lines = [line.replace('"', "").strip() for line in text.splitlines() if not line.startswith("#")]
    lines = [line for line in lines if line.strip(_PALETTE_FRAME)]
    if longest := max((len(line) for line in lines if len(line) > _MAX_PALETTE_LINE), default=0):
        raise UnreadableFileError(
            f"{path} must be a palette with lines of at most {_MAX_PALETTE_LINE} characters; check COLOR_MAP. "
            f"Received: {longest} characters"
        )
    matches = [_palette_match(line) for line in lines]
    found = list(dropwhile(lambda match: match is None, matches))
    if not all(found) or not found:
        invalid = lines[matches.index(None, len(lines) - len(found))] if found else text[:_MAX_PALETTE_LINE]
        raise UnreadableFileError(
            f"{path} must be a palette with lines such as '128 64 128 road' or 'road,128,64,128', after a "
            f"header if any; check COLOR_MAP. Received: {invalid!r}"
        )
    channels = [[int(match[channel]) for channel in ("red", "green", "blue")] for match in found if match]
    return channels, [match["name"] for match in found if match]


def _palette_match(line: str) -> re.Match[str] | None:
    """Return the match of a line with a color, also within a list."""
    texts = (line, line.strip(_PALETTE_FRAME))
    return next(
        filter(None, (form.fullmatch(text) for text in texts for form in (_PALETTE_LINE, _CLASS_FIRST_LINE))), None
    )
