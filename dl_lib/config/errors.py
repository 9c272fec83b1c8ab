"""What a user is told when a configuration cannot be used."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

__all__ = ["ConfigError", "nearest_keys", "nearest_names", "numbered"]


class ConfigError(ValueError):
    """A configuration that cannot be used as it is; the message lists everything that is wrong with it."""


def numbered(title: str, problems: Sequence[str]) -> str:
    """One readable list: a title and a numbered line for each problem; a single problem stands alone."""
    if len(problems) == 1:
        return f"{title}: {problems[0]}"
    lines = (f"  {number}. {problem}" for number, problem in enumerate(problems, 1))
    return "\n".join((f"{title}: {len(problems)} problems", *lines))


def nearest_names(name: str, names: Iterable[str]) -> str:
    """A half-sentence with the existing names nearest to `name`, or all of them where none is near."""
    known = sorted(names)
    if not known:
        return "none exist"
    by_folded = {known_name.casefold(): known_name for known_name in known}
    near = difflib.get_close_matches(name.casefold(), list(by_folded), n=3, cutoff=0.6)
    if near:
        return "nearest: " + ", ".join(by_folded[folded] for folded in near)
    return "existing: " + ", ".join(known)


def nearest_keys(key: str, keys: Iterable[str], *, limit: int = 3) -> list[str]:
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
