"""Checked values of the entries of COCO annotation files."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from dl_lib.data.errors import DataError
from dl_lib.utils.escaping import printable

__all__ = ["EntryId", "flag", "identifier", "parse_entries", "required", "side", "text"]

EntryId = int | str
Parsed = TypeVar("Parsed")

_SINGULAR = {"images": "image", "annotations": "annotation", "categories": "category"}
_FLAGS = {"0": False, "false": False, "1": True, "true": True}
_MAX_SHOWN = 3  # entries per error message


def parse_entries(part: str, entries: Sequence[Any], parse: Callable[[Mapping[str, Any]], Parsed]) -> list[Parsed]:
    """Parse all entries of a list of the file.

    Args:
        part: Name of the list: images, annotations or categories.
        entries: Its entries, of any type.
        parse: Function that parses an entry, or raises a `DataError` about one of its values.

    Raises:
        DataError: If an entry is invalid; the message names the first invalid ones.
    """
    parsed: list[Parsed] = []
    problems: list[str] = []
    for position, entry in enumerate(entries):
        try:
            if not isinstance(entry, dict):
                raise DataError(f"must be an object. Received: {type(entry).__name__} {entry!r:.60}")
            parsed.append(parse(entry))
        except DataError as error:
            problems.append(f"\n  {_entry_name(part, position, entry)}: {error}")
    if problems:
        more = "\n  ..." if len(problems) > _MAX_SHOWN else ""
        raise DataError(
            f"the list {part} has invalid entries:{''.join(problems[:_MAX_SHOWN])}{more}\n"
            f"Fix or remove them in the file. Received: invalid {part}={len(problems)}"
        )
    return parsed


def required(entry: Mapping[str, Any], key: str) -> Any:
    """Return a value of any type."""
    if key not in entry:
        raise DataError(f"{key} is missing; it is required. Received: keys={sorted(entry)}")
    return entry[key]


def identifier(entry: Mapping[str, Any], key: str) -> EntryId:
    """Return an id; numbers such as 3.0 are converted to integers."""
    value = required(entry, key)
    number = _whole_number(value)
    if number is None and not isinstance(value, str):
        raise DataError(f"{key} must be an integer or text. Received: {key}={value!r:.60}")
    return value if isinstance(value, str) else int(number or 0)


def text(entry: Mapping[str, Any], key: str) -> str:
    """Return a text that can be part of a path, a table or a log."""
    value = required(entry, key)
    if not isinstance(value, str) or not value or printable(value) != value:
        raise DataError(f"{key} must be text without control characters. Received: {key}={value!r:.60}")
    return value


def side(entry: Mapping[str, Any], key: str) -> int:
    """Return the height or width of an image in pixels."""
    value = required(entry, key)
    number = _whole_number(value)
    if number is None or number < 1:
        raise DataError(f"{key} must be a positive integer (pixels). Received: {key}={value!r:.60}")
    return number


def flag(entry: Mapping[str, Any], key: str) -> bool:
    """Return a flag, False if it is missing or null. Its values may also be text, as some exporters write them."""
    value = entry.get(key)
    if value is None:
        return False
    number = int(value) if isinstance(value, bool) else _whole_number(value)
    known = _FLAGS.get(str(value).strip().lower() if isinstance(value, str) else str(number))
    if known is None:
        raise DataError(f"{key} must be 0, 1, true or false. Received: {key}={value!r:.60}")
    return known


def _whole_number(value: Any) -> int | None:
    is_whole = isinstance(value, float) and value.is_integer()
    return int(value) if is_whole or (isinstance(value, int) and not isinstance(value, bool)) else None


def _entry_name(part: str, position: int, entry: Any) -> str:
    entry_id = entry.get("id") if isinstance(entry, dict) else None
    return f"{part}[{position}]" if entry_id is None else f"{_SINGULAR[part]} {entry_id!r:.60}"
