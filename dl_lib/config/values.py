"""Conversion of config values to the type of their key."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Callable, Mapping
from typing import Any

from dl_lib.config.declarations import KEYS
from dl_lib.config.errors import ConfigError, shown
from dl_lib.config.paths import escape_path, expand_path, locate_data
from dl_lib.config.yaml_text import parse_yaml

__all__ = ["Text", "escape_value", "expand_value", "fit_value", "read_entry"]

_MAX_INT, _MAX_FLOAT = 2**63 - 1, int(sys.float_info.max)
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f\ud800-\udfff]")
_NOT_UTF8 = re.compile("[\x00\ud800-\udfff]")  # a surrogate stands for a byte that is not UTF-8
_DIGITS = re.compile("[-+]?[0-9]+")
_MAX_QUOTED = 100  # characters of a value that a hint repeats


class Text(str):
    """Value from a command line, whose type is not known yet."""

    __slots__ = ()


def fit_value(value: Any, current: Any, *, key: str) -> Any:
    """Convert a value to the type of its key.

    An int is accepted for a float, a tuple for a list, and a bool for text that has it as a choice. `Text`, and text
    for a key that is not text, is read as a Python literal or else as YAML; nothing is executed. The current value
    gives the type of keys that are not declared.

    Raises:
        ConfigError: If the value has another type.
    """
    if not isinstance(current, (list, tuple)):
        return _fit(value, type(current), key=key)
    elements = _read(value, list, key=key)
    if isinstance(elements, str) and key in KEYS and KEYS[key].accepts_text:
        elements = [elements]
    if not isinstance(elements, (list, tuple)):
        return _fit(value, list, key=key)  # raises
    items = _item_type(key, current)
    if items is None:
        _check_entries(elements, key=key)
    return type(current)(_fit(element, items, key=f"{key}[{index}]") for index, element in enumerate(elements))


def _check_entries(value: Any, *, key: str) -> None:
    """Raise ConfigError for integers and texts in entries that cannot be computed with or written to a file."""
    if isinstance(value, Mapping):
        value = [*value, *value.values()]
    if isinstance(value, (list, tuple)):
        for below in value:
            _check_entries(below, key=key)
    elif isinstance(value, int) and abs(value) > _MAX_INT:
        raise ConfigError(f"{key} must contain only numbers of at most 64 bits. Received: {key}={shown(value)}")
    elif isinstance(value, str) and _NOT_UTF8.search(value):
        raise ConfigError(f"{key} must contain only text in UTF-8. Received: {key}={shown(value)}")


def read_entry(value: Any, current: Any, *, key: str) -> Any:
    """Return an element of a list: text from a command line as the type of the current element, or as YAML.

    An element that is text can be replaced by a list or dict; `{name}_mask.png`, which is neither, stays text.
    """
    if not isinstance(value, Text):
        return value
    if isinstance(current, str) and not value.startswith(("[", "{")):
        return _read(value, str, key=key)
    try:
        return _read(value, list, key=key)
    except ConfigError:
        if isinstance(current, (list, dict)):
            raise
        return _read(value, str, key=key)


def expand_value(value: Any, *, key: str) -> Any:
    """Expand the paths in a value of the right type, see `dl_lib.config.paths`.

    Raises:
        ConfigError: If a path cannot be expanded.
    """
    in_entries = key in KEYS and KEYS[key].path_entries
    return _convert_paths(value, key=key, convert=locate_data if in_entries else expand_path)


def escape_value(value: Any, *, key: str) -> Any:
    """Return a value that `expand_value` turns into this one, to be written to a config file."""
    return _convert_paths(value, key=key, convert=lambda path, **_: escape_path(path))


def _convert_paths(value: Any, *, key: str, convert: Callable[..., str]) -> Any:
    """Apply `convert(path, key=name)` to every path in a value: of a path key, or in the entries of a list."""
    declared = KEYS.get(key)
    if declared is not None and declared.is_path:
        return convert(value, key=key)
    if declared is None or not declared.path_entries:
        return value
    entries = []
    for index, entry in enumerate(value):
        names = set(declared.path_entries) & entry.keys() if isinstance(entry, dict) else ()
        paths = {name: _convert_each(entry[name], key=f"{key}[{index}].{name}", convert=convert) for name in names}
        entries.append({**entry, **paths} if paths else entry)
    return entries


def _convert_each(value: Any, *, key: str, convert: Callable[..., str]) -> Any:
    """Apply `convert` to a path or to each path of a list; other types are reported when the entry is checked."""
    if isinstance(value, list):
        return [_convert_each(path, key=key, convert=convert) for path in value]
    return convert(value, key=key) if isinstance(value, str) else value


def _item_type(key: str, current: Any) -> type | None:
    items = KEYS[key].items if key in KEYS else type(current[0]) if current else None
    return None if items is dict else items  # entries are checked by the code that reads them


def _fit(value: Any, expected: type | None, *, key: str) -> Any:
    if expected is None:
        return value
    if expected is str and key in KEYS and "True" in KEYS[key].resolve_choices():
        switch = _read(value, bool, key=key) if isinstance(value, Text) else value
        value = str(switch) if isinstance(switch, bool) else value
    read = _read(value, expected, key=key)
    if _exceeds(read, expected):
        declared = KEYS.get(key.partition("[")[0])
        limits = str(declared.interval) if declared and declared.interval else "a number of at most 64 bits"
        raise ConfigError(f"{key} must be {limits}. Received: {key}={shown(value)}")
    if expected is float and type(read) is int:
        return float(read)
    if expected is str and isinstance(read, str) and _UNPRINTABLE.search(read):
        raise ConfigError(f"{key} must be text in UTF-8 without control characters. Received: {key}={shown(value)}")
    if type(read) is expected:
        return read
    if read is None or read == {}:  # a line without a value in a file
        wanted = f"must have a value of type {expected.__name__}; give one or remove the line"
        raise ConfigError(f"{key} {wanted}. Received: {key}={shown(value)}")
    fix = _fix(read, value, expected)
    raise ConfigError(
        f"{key} must be of type {expected.__name__}, not {type(read).__name__}{fix}. Received: {key}={shown(value)}"
    )


def _exceeds(number: Any, expected: type) -> bool:
    """Return whether a number is too large to be of the expected type."""
    if expected in (int, float) and isinstance(number, str):
        return _DIGITS.fullmatch(number) is not None  # Python converts at most 4300 digits
    if expected is int:
        return type(number) in (int, float) and abs(number) > _MAX_INT
    return expected is float and type(number) is int and abs(number) > _MAX_FLOAT


def _read(value: Any, expected: type, *, key: str) -> Any:
    """Parse text as a literal, unless the key expects text."""
    if not isinstance(value, str):
        return value
    if expected is str:
        # Text stays as it is, except for quotes that a shell has passed on.
        literal = _literal(value) if isinstance(value, Text) else value
        return literal if isinstance(literal, str) and not isinstance(literal, Text) else str(value)
    literal = _literal(value)
    if not isinstance(literal, str):
        return literal
    try:
        return parse_yaml(literal, name=key)  # YAML without quotes, such as [c4, c5] or true
    except ConfigError:
        if expected is list:
            raise
        return str(value)


def _literal(value: str) -> Any:
    """Return the value of a Python literal, or the text if it is none or has a key twice in one dict."""
    try:
        tree = ast.parse(value.strip(), mode="eval")
        for node in ast.walk(tree):
            keys = [ast.literal_eval(key) for key in node.keys if key] if isinstance(node, ast.Dict) else []
            if len(set(keys)) < len(keys):
                return value
        return ast.literal_eval(tree)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return value


def _fix(value: Any, given: Any, expected: type) -> str:
    """Return a hint for fixing a value of the wrong type; `given` is the value before it was read as a literal."""
    if len(shown(given)) > _MAX_QUOTED or (type(value) is int and abs(value) > _MAX_INT):
        return ""
    if expected is list and isinstance(value, (str, int, float)) and not str(value).startswith("("):
        return f"; write [{value}] for a list of one element"
    if expected is str and not isinstance(value, (list, dict)):
        return f'; put it in quotes: "{given}"'
    if expected is int and isinstance(value, float) and value.is_integer():
        return f"; write {int(value)}"
    return ""
