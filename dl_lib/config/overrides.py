"""Command line overrides of config keys and elements of lists: `KEY VALUE` and `KEY=VALUE`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from dl_lib.config.errors import ConfigError, shown
from dl_lib.config.values import Text

if TYPE_CHECKING:
    from dl_lib.config.config_node import CfgNode

__all__ = ["apply_overrides", "parse_overrides"]

_BRACKETS = {"[": "]", "(": ")"}
_ASSIGNMENT = re.compile(r"(?P<key>[A-Za-z_]\w*(?:\.[\w-]+)*)=(?P<value>.*)", re.DOTALL)


def apply_overrides(cfg: CfgNode, opts: Sequence[str]) -> None:
    """Merge overrides into a config; raises ConfigError listing all problems."""
    cfg.merge_from_list(opts)


def parse_overrides(opts: Sequence[Any]) -> list[tuple[str, Any]]:
    """Return pairs of key and value; text becomes `Text`, to be converted to the type of the key.

    Raises:
        ConfigError: If a key has no value, or a key is expected and something else is found.
    """
    pairs: list[tuple[str, Any]] = []
    position = 0
    while position < len(opts):
        key = opts[position]
        match = _ASSIGNMENT.fullmatch(key) if isinstance(key, str) else None
        if match is not None:
            _check_brackets(match["value"], following=opts[position + 1 :])
            pairs.append((match["key"], Text(match["value"])))
            position += 1
            continue
        if not isinstance(key, str):
            raise ConfigError(f"override {position + 1} must be the name of a key. Received: opts={shown(list(opts))}")
        if position + 1 == len(opts):
            raise ConfigError(
                f"an override must be `KEY VALUE` or `KEY=VALUE`; {shown(key)} has no value. "
                f"Received: opts={shown(list(opts))}"
            )
        value = opts[position + 1]
        _check_brackets(value, following=opts[position + 2 :])
        pairs.append((key, Text(value) if isinstance(value, str) else value))
        position += 2
    return pairs


def _check_brackets(value: Any, *, following: Sequence[Any]) -> None:
    """Raise ConfigError for a list that the shell has split at its spaces."""
    end = _BRACKETS.get(value[:1]) if isinstance(value, str) else None
    if end is None or end in value:
        return
    rest = [word for word in following if isinstance(word, str) and word.endswith(end)][:1]
    if rest:
        raise ConfigError(
            "a list with spaces must be quoted, such as '[c4, c5]', or the shell splits it. "
            f"Received: {shown(value)}, and later {shown(rest[0])}"
        )
