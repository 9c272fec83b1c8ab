"""Entries of a configuration's lists that have keys of their own, such as those of `SOLVER.OPTIMIZER.GROUPS`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from dl_lib.utils.names import nearest_names

__all__ = ["EntryKey", "entry_problems"]


@dataclass(frozen=True)
class EntryKey:
    """A key of an entry: what its value has to be, in words too, and whether it has to be there."""

    fits: Callable[[Any], bool]
    expected: str
    required: bool = False


def entry_problems(entry: Any, *, place: str, what: str, keys: Mapping[str, EntryKey]) -> list[str]:
    """What is wrong with an entry by itself, a line for each thing.

    Args:
        entry: as the configuration has it.
        place: its full name, such as `SOLVER.OPTIMIZER.GROUPS[0]`.
        what: what an entry is, with its article.
        keys: those that it may have.
    """
    if not isinstance(entry, Mapping):
        return [f"{place}: {what} is given by keys. Expected {', '.join(keys)}. Received: {place}={entry!r}"]
    wrong = [
        f"{place}: no key has this name; {nearest_names(str(key), keys)}. Received: {place}.{key}={value!r}"
        for key, value in entry.items()
        if key not in keys
    ]
    for name, key in keys.items():
        if name not in entry and key.required:
            wrong.append(f"{place}: {name} is missing. Expected {key.expected}. Received: {place}={dict(entry)!r}")
        elif name in entry and not key.fits(entry[name]):
            wrong.append(f"{place}.{name}: expected {key.expected}. Received: {place}.{name}={entry[name]!r}")
    return wrong
