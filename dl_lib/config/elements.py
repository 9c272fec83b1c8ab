"""Overrides of one element of a list, such as `DATASETS.FOLDERS.0.IMAGES=images` or `INPUT.CROP_SIZE.1=512`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dl_lib.config.errors import ConfigError, shortened, shown
from dl_lib.config.values import read_entry

__all__ = ["list_key_of", "with_element"]


def list_key_of(key: str, values: Mapping[str, Any]) -> str | None:
    """Return the list-valued key that the name of an element starts with; None if there is none."""
    parts = key.split(".")
    prefixes = (".".join(parts[:count]) for count in range(1, len(parts)))
    return next((prefix for prefix in prefixes if isinstance(values.get(prefix), (list, tuple))), None)


def with_element(elements: Sequence[Any], value: Any, *, key: str, list_key: str) -> Any:
    """Return a copy of a list in which the element that `key` names is replaced.

    Args:
        elements: Value of `list_key`.
        value: New element, or new value of a key of an element; `Text` from a command line is read as its type.
        key: Name of the list, index, and names or indices inside the element, separated by dots.
        list_key: Name of the list.

    Raises:
        ConfigError: If there is no such element.
    """
    path = key.removeprefix(f"{list_key}.").split(".")
    try:
        return _replaced(elements, path, value, name=list_key)
    except ConfigError as error:
        raise ConfigError(f"{error}. Received: {shortened(key)}={shown(value)}") from None


def _replaced(current: Any, path: Sequence[str], value: Any, *, name: str) -> Any:
    if not path:
        return read_entry(value, current, key=name)
    part, rest = path[0], path[1:]
    if isinstance(current, (list, tuple)):
        if part not in map(str, range(len(current))):
            if not current:
                raise ConfigError(f"{name} has no elements; give the whole list, such as {name}=[…]")
            raise ConfigError(f"{name} must be followed by an index from 0 to {len(current) - 1}")
        changed: Any = list(current)
        changed[int(part)] = _replaced(current[int(part)], rest, value, name=f"{name}.{part}")
        return changed
    if not isinstance(current, Mapping):
        raise ConfigError(f"{name} must not be followed by .{part}: it is a plain value, {shown(current)}")
    entry_key = next((known for known in current if str(known) == part), part)
    return {**current, entry_key: _replaced(current.get(entry_key), rest, value, name=f"{name}.{part}")}
