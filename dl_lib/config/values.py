"""Fitting a value that a user gave to the type that its key has."""

from __future__ import annotations

import ast
from typing import Any

import yaml

from dl_lib.config.errors import ConfigError

__all__ = ["Text", "fit_value"]


LISTS_OF_NAMES = (  # empty by default: no example there
    *("DATASETS.TRAIN", "DATASETS.TEST"),
    *("MODEL.ALLOW_MISSING_KEYS", "MODEL.ALLOW_UNEXPECTED_KEYS"),
)


class Text(str):
    """A value as typed on a command line: its type is still open."""

    __slots__ = ()


def fit_value(value: Any, current: Any, *, key: str) -> Any:
    """The value in the type of the key.

    Args:
        value: what was given; `Text` and text where no text is expected are read as a literal.
        current: what the key holds now, whose type counts; a list's first element stands for all of them.
        key: full name, for the message.

    Raises:
        ConfigError: if the type does not fit; names the key, what was expected and what was received.
    """
    fitted = _read(value, current)
    if isinstance(current, float) and _is_int(fitted):
        return float(fitted)
    if isinstance(current, (list, tuple)) and isinstance(fitted, (list, tuple)):
        return type(current)(_fit_elements(fitted, current, key=key))
    if type(fitted) is not type(current):
        raise ConfigError(_mismatch(fitted, current, key=key, given=value))
    return fitted


def _fit_elements(values: Any, current: Any, *, key: str) -> list[Any]:
    if not current and key not in LISTS_OF_NAMES:
        return list(values)  # what it holds by default is compared when the whole configuration is checked
    example = current[0] if current else ""
    return [fit_value(value, example, key=f"{key}[{index}]") for index, value in enumerate(values)]


def _read(value: Any, current: Any) -> Any:
    if not isinstance(value, str):
        return value
    typed = isinstance(value, Text)
    if isinstance(current, str):  # text is wanted: as it stands, but for quotes that a shell let through
        literal = _literal(value) if typed else value
        return literal if isinstance(literal, str) and not isinstance(literal, Text) else str(value)
    literal = _literal(value)
    if isinstance(literal, str):  # YAML knows lists of bare words, and true and false in small letters
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


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _mismatch(fitted: Any, current: Any, *, key: str, given: Any) -> str:
    expected, received = type(current).__name__, type(fitted).__name__
    mend = ""
    if isinstance(current, list) and isinstance(fitted, (str, int, float)) and not str(fitted).startswith("("):
        mend = f" Write [{fitted}] for a list of one."
    elif isinstance(current, str) and not isinstance(fitted, (list, dict, type(None))):
        mend = f' Put it in quotes: "{given}".'
    elif isinstance(current, int) and isinstance(fitted, float) and fitted.is_integer():
        mend = f" Write {int(fitted)}."
    elif fitted is None or fitted == {}:  # in a file, a key with nothing behind it
        mend = " It has no value: write one, or leave the line out."
    return f"{key} must be of type {expected} (now {current!r}), not {received}.{mend} Received: {key}={given!r}"
