"""What to tell somebody who misspelt a name."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = ["nearest_names"]

_NEAREST, _EXISTING = 3, 20  # names that are given: of those that come near, and where none does


def nearest_names(name: str, names: Iterable[str]) -> str:
    """A half-sentence with the existing names nearest to `name`, or with all of them where none is near.

    Letter case does not matter.

    Args:
        name: the one that does not exist.
        names: those that do.
    """
    known = sorted(names)
    if not known:
        return "none exist"
    by_folded = {known_name.casefold(): known_name for known_name in known}
    near = difflib.get_close_matches(name.casefold(), list(by_folded), n=_NEAREST)
    if near:
        return "nearest: " + ", ".join(by_folded[folded] for folded in near)
    more = f" and {len(known) - _EXISTING} more" if len(known) > _EXISTING else ""
    return "existing: " + ", ".join(known[:_EXISTING]) + more
