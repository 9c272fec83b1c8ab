"""Dict entries of list-valued config keys, such as `SOLVER.OPTIMIZER.GROUPS`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from dl_lib.config.errors import shown
from dl_lib.utils.names import nearest_names

__all__ = ["EntryKey", "entry_problems"]


@dataclass(frozen=True)
class EntryKey:
    """Key of an entry."""

    accepts: Callable[[Any], bool]
    expected: str  # description of valid values, for messages
    required: bool = False


def entry_problems(entry: Any, *, name: str, keys: Mapping[str, EntryKey]) -> list[str]:
    """Return the problems of an entry, one line each; its `name` is such as `SOLVER.OPTIMIZER.GROUPS[0]`."""
    if not isinstance(entry, Mapping):
        return [f"{name} must be a mapping with the keys {', '.join(keys)}. Received: {name}={shown(entry)}"]
    problems = [
        f"{name} has an unknown key; {nearest_names(str(key), keys)}. Received: {name}.{key}={shown(value)}"
        for key, value in entry.items()
        if key not in keys
    ]
    for key_name, key in keys.items():
        if key_name not in entry and key.required:
            problems.append(
                f"{name} must have the key {key_name}: {key.expected}. Received: {name}={shown(dict(entry))}"
            )
        elif key_name in entry and not key.accepts(entry[key_name]):
            received = f"{name}.{key_name}={shown(entry[key_name])}"
            problems.append(f"{name}.{key_name} must be {key.expected}. Received: {received}")
    return problems
