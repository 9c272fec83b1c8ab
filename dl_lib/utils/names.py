"""Names: lists and suggestions for messages, and the rule for names that become file names."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

from dl_lib.utils.escaping import printable

__all__ = ["NAME_RULE", "close_names", "is_safe_id", "is_safe_name", "joined", "nearest_names"]

_MAX_CLOSE, _MAX_EXISTING = 3, 20  # names that a message lists
_MAX_COMPARED = 200  # characters; the comparison takes quadratic time
_MAX_NAME_BYTES = 80  # three times as many after percent-encoding; leaves room for suffixes in the 255 of a file name
_MAX_ID_BYTES = 240  # file names of images; leaves room for `.png.partial`

NAME_RULE = f"text of 1 to {_MAX_NAME_BYTES} bytes without /, \\ and control characters that does not start with a dot"


def close_names(name: str, names: Iterable[str]) -> list[str]:
    """Return up to three of the existing names that are similar to `name`, most similar first; case is ignored."""
    if len(name) > _MAX_COMPARED:
        return []
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
    return f"available: {joined(known, limit=_MAX_EXISTING)}"


def joined(texts: Sequence[str], *, limit: int, separator: str = ", ") -> str:
    """Return texts in one line, such as `a, b and 3 more` if there are more than `limit`."""
    more = f" and {len(texts) - limit} more" if len(texts) > limit else ""
    return separator.join(texts[:limit]) + more


def is_safe_name(name: object) -> bool:
    """Return whether a name satisfies `NAME_RULE`, so that it can be part of a file or folder name.

    To be checked for every name from a config, a command line or a data file that becomes part of a path.
    """
    return isinstance(name, str) and _is_safe_component(name, max_bytes=_MAX_NAME_BYTES)


def is_safe_id(image_id: object) -> bool:
    """Return whether an image id is a relative path, with `/` between its components, that cannot leave a folder."""
    return isinstance(image_id, str) and all(
        _is_safe_component(component, max_bytes=_MAX_ID_BYTES) for component in image_id.split("/")
    )


def _is_safe_component(text: str, *, max_bytes: int) -> bool:
    return (
        bool(text.strip())
        and not text.startswith(".")
        and not any(char in "/\\" for char in text)
        and printable(text) == text
        and len(text.encode()) <= max_bytes
    )
