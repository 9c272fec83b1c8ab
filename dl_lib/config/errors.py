"""Error of a configuration that cannot be used, and its messages."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping, Sequence
from typing import Any

__all__ = [
    "ConfigError",
    "nearest_keys",
    "numbered",
    "renamed_key",
    "renamed_value",
    "shortened",
    "shown",
    "unknown_key",
]

RENAMED_KEYS = {
    "PICTURES_PERIOD": "VIS_PERIOD",
    "MODEL.WEIGHTS_MAY_LACK": "MODEL.ALLOW_MISSING_KEYS",
    "MODEL.WEIGHTS_MAY_ALSO_HOLD": "MODEL.ALLOW_UNEXPECTED_KEYS",
    "MODEL.LOSS.OHEM.MIN_SHARE": "MODEL.LOSS.OHEM.MIN_RATIO",
    "INPUT.CROP_MAX_CLASS_SHARE": "INPUT.CROP_MAX_CLASS_RATIO",
}
RENAMED_VALUES = {"TEST.ABSENT_CLASSES": {"leave_out": "exclude"}}
# Ignored with a warning: the published configs set it, and costs are now measured at the size of each input.
REMOVED_KEYS = ("INPUT.FIX_SIZE_FOR_FLOPS",)

_MAX_SHOWN = 200  # characters of a value in a message
_MAX_PROBLEMS = 20
_MAX_NEAREST, _MIN_SIMILARITY = 3, 0.75  # of suggested keys


class ConfigError(ValueError):
    """Configuration that cannot be used; the message lists all problems."""


def shown(value: Any) -> str:
    """Return the repr of a value for an error message, shortened if it is long."""
    try:
        return shortened(repr(value))
    except (ValueError, RecursionError):  # Python does not print integers of more than 4300 digits
        return f"{type(value).__name__} that is too long to print"


def shortened(text: str) -> str:
    """Return a text for an error message, cut off after 200 characters."""
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}… ({len(text)} characters)"


def numbered(title: str, problems: Sequence[str]) -> str:
    """Return a title and up to 20 numbered problems, one per line; a single one follows the title on the same line."""
    if len(problems) == 1:
        return f"{title}: {problems[0]}"
    lines = [f"  {number}. {problem}" for number, problem in enumerate(problems[:_MAX_PROBLEMS], 1)]
    more = [f"  … and {len(problems) - _MAX_PROBLEMS} more"] if len(problems) > _MAX_PROBLEMS else []
    return "\n".join((f"{title}: {len(problems)} problems", *lines, *more))


def unknown_key(key: str, value: Any, known: Mapping[str, Any]) -> str:
    """Return the error message for a key that is not among the `known` full names."""
    inside = [name for name in known if name.startswith(key + ".")]
    if inside:
        return f"{key} is a section; set its keys one by one: {', '.join(inside)}. Received: {key}={shown(value)}"
    hint, key = nearest_keys(key, known), shortened(key)
    return f"unknown key {key}; {hint}; or declare it in net.py with add_keys. Received: {key}={shown(value)}"


def renamed_key(key: str, value: Any) -> str:
    """Return the error message for a key in `RENAMED_KEYS`."""
    return f"{key} has been renamed; use {RENAMED_KEYS[key]}. Received: {key}={shown(value)}"


def renamed_value(key: str, value: Any) -> str | None:
    """Return the error message for a value in `RENAMED_VALUES`; None for any other value."""
    new = RENAMED_VALUES.get(key, {}).get(value) if isinstance(value, str) else None
    return None if new is None else f"{key}: {value} has been renamed; use {new}. Received: {key}={shown(value)}"


def nearest_keys(key: str, known: Collection[str]) -> str:
    """Return `nearest: …` with up to three full names similar to `key`, or `sections: …` if none is; case is ignored.

    The similarity is the larger of two: that of the last components, which finds keys in the wrong section (`BASE_LR`,
    `MODEL.SMALL_GATE`), and that of the full names, which finds misspelt keys.
    """

    def similarity(candidate: str) -> float:
        given, other = key.casefold(), candidate.casefold()
        whole = difflib.SequenceMatcher(None, given, other).ratio()
        last = difflib.SequenceMatcher(None, given.rpartition(".")[2], other.rpartition(".")[2]).ratio()
        return max(whole, last) + 0.1 * whole  # prefers the more similar section among equal last components

    compared = known if len(key) <= _MAX_SHOWN else ()  # the comparison takes quadratic time
    scored = sorted((-similarity(candidate), candidate) for candidate in compared)
    if near := [candidate for score, candidate in scored[:_MAX_NEAREST] if -score >= _MIN_SIMILARITY]:
        return f"nearest: {', '.join(near)}"
    return f"sections: {', '.join(dict.fromkeys(name.partition('.')[0] for name in known))}"
