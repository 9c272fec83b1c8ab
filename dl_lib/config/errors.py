"""What a user is told when a configuration cannot be used."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

__all__ = ["ConfigError", "numbered", "unknown_key"]


class ConfigError(ValueError):
    """A configuration that cannot be used as it is; the message lists everything that is wrong with it."""


def numbered(title: str, problems: Sequence[str]) -> str:
    """One readable list: a title and a numbered line for each problem; a single problem stands alone."""
    if len(problems) == 1:
        return f"{title}: {problems[0]}"
    lines = (f"  {number}. {problem}" for number, problem in enumerate(problems, 1))
    return "\n".join((f"{title}: {len(problems)} problems", *lines))


def unknown_key(key: str, value: Any, known: Mapping[str, Any]) -> str:
    """What is wrong with a key that is none of those `known`, by their full names."""
    inside = [name for name in known if name.startswith(key + ".")]
    if inside:
        return f"{key} is a section, set its keys one by one: {', '.join(inside)}. Received: {key}={value!r}"
    near = _nearest_keys(key, known)
    sections = dict.fromkeys(name.partition(".")[0] for name in known)
    hint = f"Nearest known: {', '.join(near)}" if near else f"Known sections: {', '.join(sections)}"
    return f"unknown key {key}. {hint}. Received: {key}={value!r}"


def _nearest_keys(key: str, keys: Iterable[str], *, limit: int = 3) -> list[str]:
    """The full key names that `key` was probably meant to be, likeliest first.

    A key that is wrong in its section only (`BASE_LR`, `MODEL.SMALL_GATE`) shares its last part with the right one;
    a misspelt one is near as a whole. Both are looked for, and letter case does not matter.
    """

    def likeness(candidate: str) -> float:
        asked, known = key.casefold(), candidate.casefold()
        whole = difflib.SequenceMatcher(None, asked, known).ratio()
        last = difflib.SequenceMatcher(None, asked.rpartition(".")[2], known.rpartition(".")[2]).ratio()
        return max(whole, last) + 0.1 * whole  # of two equal last parts, the one with the nearer section

    scored = sorted(((likeness(candidate), candidate) for candidate in keys), key=lambda pair: (-pair[0], pair[1]))
    return [candidate for score, candidate in scored[:limit] if score >= 0.75]
