"""Overrides from a command line: `KEY VALUE` and `KEY=VALUE`, in any mixture."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from dl_lib.config.errors import ConfigError
from dl_lib.config.values import Text

if TYPE_CHECKING:
    from dl_lib.config.config_node import CfgNode

__all__ = ["apply_overrides", "parse_overrides"]

BRACKETS = {"[": "]", "(": ")"}
_ASSIGNMENT = re.compile(r"(?P<key>[A-Za-z_]\w*(?:\.\w+)*)=(?P<value>.*)", re.DOTALL)


def apply_overrides(cfg: CfgNode, opts: Sequence[str]) -> None:
    """Set the keys that `opts` names; raises ConfigError with everything that is wrong with them."""
    cfg.merge_from_list(opts)


def parse_overrides(opts: Sequence[Any]) -> list[tuple[str, Any]]:
    """Pairs of key and value; text becomes `Text`, whose type the key decides.

    Raises:
        ConfigError: if a key has no value or something that is no key stands where one should.
    """
    pairs: list[tuple[str, Any]] = []
    position = 0
    while position < len(opts):
        word = opts[position]
        match = _ASSIGNMENT.fullmatch(word) if isinstance(word, str) else None
        if match is not None:
            _refuse_half_a_list(match["value"], following=opts[position + 1 :])
            pairs.append((match["key"], Text(match["value"])))
            position += 1
            continue
        if not isinstance(word, str):
            raise ConfigError(f"override {position + 1} should be the name of a key. Received: opts={list(opts)!r}")
        if position + 1 == len(opts):
            raise ConfigError(
                f"an override is a pair, `KEY VALUE` or `KEY=VALUE`, and nothing follows {word!r}. "
                f"Received: opts={list(opts)!r}"
            )
        value = opts[position + 1]
        _refuse_half_a_list(value, following=opts[position + 2 :])
        pairs.append((word, Text(value) if isinstance(value, str) else value))
        position += 2
    return pairs


def _refuse_half_a_list(value: Any, *, following: Sequence[Any]) -> None:
    end = BRACKETS.get(value[:1]) if isinstance(value, str) else None
    if end is None or end in value:
        return
    rest = [word for word in following if isinstance(word, str) and word.endswith(end)][:1]
    if rest:
        raise ConfigError(
            "a list with spaces stands in quotes, as '[c4, c5]' does, or the shell makes several words of it. "
            f"Received: {value!r}, and further on {rest[0]!r}"
        )
