"""Suggestions for misspelt names."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = ["close_names", "nearest_names"]

_MAX_CLOSE, _MAX_EXISTING = 3, 20  # names that a message lists


def close_names(name: str, names: Iterable[str]) -> list[str]:
    """Return up to three of the existing names that are similar to `name`, most similar first; case is ignored."""
    by_folded = {known.casefold(): known for known in sorted(names)}
    near = difflib.get_close_matches(name.casefold(), list(by_folded), n=_MAX_CLOSE)
    return [by_folded[folded] for folded in near]


def nearest_names(name: str, names: Iterable[str]) -> str:
    """Return `nearest: …` with the names similar to `name`, or `available: …` with all names if none is similar."""
    known = sorted(names)
    if not known:
        return "none exist"
    if near := close_names(name, known):
        return f"nearest: {', '.join(near)}"
    more = f" and {len(known) - _MAX_EXISTING} more" if len(known) > _MAX_EXISTING else ""
    return f"available: {', '.join(known[:_MAX_EXISTING])}{more}"
