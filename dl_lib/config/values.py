"""Conversion of config values to the type of their key."""

from __future__ import annotations

import ast
from typing import Any

import yaml

from dl_lib.config.declarations import KEYS
from dl_lib.config.errors import ConfigError

__all__ = ["Text", "fit_value"]


class Text(str):
    """Value from a command line, whose type is not known yet."""

    __slots__ = ()


def fit_value(value: Any, current: Any, *, key: str) -> Any:
    """Convert a value to the type of its key.

    An int is accepted for a float and a tuple for a list. `Text`, and text for a key that is not text, is read as a
    Python literal or else as YAML; nothing is executed. The current value gives the type of keys that are not declared.

    Raises:
        ConfigError: If the value has another type.
    """
    if not isinstance(current, (list, tuple)):
        return _fit(value, type(current), key=key)
    elements = _read(value, list)
    if not isinstance(elements, (list, tuple)):
        return _fit(value, list, key=key)  # raises
    items = _item_type(key, current)
    return type(current)(_fit(element, items, key=f"{key}[{index}]") for index, element in enumerate(elements))


def _item_type(key: str, current: Any) -> type | None:
    items = KEYS[key].items if key in KEYS else type(current[0]) if current else None
    return None if items is dict else items  # entries are checked by the code that reads them


def _fit(value: Any, expected: type | None, *, key: str) -> Any:
    if expected is None:
        return value
    read = _read(value, expected)
    if expected is float and type(read) is int:
        return float(read)
    if type(read) is expected:
        return read
    if read is None or read == {}:  # a line without a value in a file
        wanted = f"must have a value of type {expected.__name__}; give one or remove the line"
        raise ConfigError(f"{key} {wanted}. Received: {key}={value!r}")
    fix = _fix(read, value, expected)
    raise ConfigError(
        f"{key} must be of type {expected.__name__}, not {type(read).__name__}{fix}. Received: {key}={value!r}"
    )


def _read(value: Any, expected: type) -> Any:
    """Parse text as a literal, unless the key expects text."""
    if not isinstance(value, str):
        return value
    if expected is str:
        # Text stays as it is, except for quotes that a shell has passed on.
        literal = _literal(value) if isinstance(value, Text) else value
        return literal if isinstance(literal, str) and not isinstance(literal, Text) else str(value)
    literal = _literal(value)
    if isinstance(literal, str):  # YAML reads what is no Python literal: [c4, c5], true
        try:
            return yaml.safe_load(literal)
        except yaml.YAMLError:
            return str(value)
    return literal


def _literal(value: str) -> Any:
    try:
        return ast.literal_eval(value)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return value


def _fix(value: Any, given: Any, expected: type) -> str:
    """Return a hint for fixing a value of the wrong type; `given` is the value before it was read as a literal."""
    if expected is list and isinstance(value, (str, int, float)) and not str(value).startswith("("):
        return f"; write [{value}] for a list of one element"
    if expected is str and not isinstance(value, (list, dict)):
        return f'; put it in quotes: "{given}"'
    if expected is int and isinstance(value, float) and value.is_integer():
        return f"; write {int(value)}"
    return ""
