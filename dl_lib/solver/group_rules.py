"""Parameters by the patterns of their names that `SOLVER.OPTIMIZER.GROUPS` gives settings of their own."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from dl_lib.config.entries import EntryKey, entry_problems
from dl_lib.config.errors import ConfigError, numbered
from dl_lib.utils.names import nearest_names

__all__ = ["GroupRule", "first_match", "group_rule_problems", "read_group_rules", "refuse_idle_rules"]

_KEY = "SOLVER.OPTIMIZER.GROUPS"


@dataclass(frozen=True)
class GroupRule:
    """What holds for the parameters that a regular expression is found in the names of.

    Attributes:
        params: the expression, found anywhere in a name unless it is anchored.
        lr_multi: learning rate as a multiple of the base learning rate; None leaves it as it would be.
        weight_decay: None leaves it as it would be.
    """

    params: str
    lr_multi: float | None = None
    weight_decay: float | None = None


def read_group_rules(entries: Sequence[Any]) -> tuple[GroupRule, ...]:
    """The rules of `SOLVER.OPTIMIZER.GROUPS`, in their order.

    Raises:
        ConfigError: if an entry cannot be used; lists everything that is wrong.
    """
    if problems := group_rule_problems(entries):
        raise ConfigError(numbered("these groups of parameters cannot be used", problems))
    return tuple(
        GroupRule(entry["PARAMS"], lr_multi=entry.get("LR_MULTI"), weight_decay=entry.get("WEIGHT_DECAY"))
        for entry in entries
    )


def group_rule_problems(entries: Sequence[Any]) -> list[str]:
    """What is wrong with the entries, as far as it can be known without a model; a line for each thing."""
    problems: list[str] = []
    known: set[str] = set()
    for number, entry in enumerate(entries):
        place = f"{_KEY}[{number}]"
        wrong = entry_problems(entry, name=place, keys=_KEYS)
        if not wrong and entry.keys() == {"PARAMS"}:
            wrong = [f"{place}: it changes nothing. Expected LR_MULTI, WEIGHT_DECAY or both. Received: {place}={entry}"]
        if not wrong and entry["PARAMS"] in known:
            wrong = [f"{place}: an earlier entry has the same names. Received: {place}.PARAMS={entry['PARAMS']!r}"]
        if not wrong:
            known.add(entry["PARAMS"])
        problems += wrong
    return problems


def first_match(name: str, *, rules: Sequence[GroupRule]) -> int | None:
    """Position of the first rule whose expression is found in a parameter's name."""
    return next((index for index, rule in enumerate(rules) if re.search(rule.params, name)), None)


def refuse_idle_rules(rules: Sequence[GroupRule], *, names: Iterable[str], used: Iterable[int]) -> None:
    """Make sure that every rule holds for a parameter.

    Args:
        rules: all of them.
        names: of all trainable parameters.
        used: positions of the rules that hold for one.

    Raises:
        ConfigError: naming those that do not, and what exists that is called like it.
    """
    idle = [index for index in range(len(rules)) if index not in set(used)]
    if idle:
        problems = [_idle(rules[index].params, place=f"{_KEY}[{index}]", names=list(names)) for index in idle]
        raise ConfigError(numbered("the optimizer cannot be built", problems))


def _idle(params: str, *, place: str, names: Sequence[str]) -> str:
    received = f"Received: {place}.PARAMS={params!r}"
    if taken := [name for name in names if re.search(params, name)]:
        return (
            f"{place}: all {len(taken)} parameters with such names, {taken[0]} among them, belong to earlier entries; "
            f"the first one that fits counts. {received}"
        )
    parts = {name.rsplit(".", depth)[0] for name in names for depth in range(name.count(".") + 1)}
    near = nearest_names(re.sub(r"[\\^$]", "", params).rstrip("."), parts)
    return f"{place}: no trainable parameter has such a name; {near}. {received}"


def _is_expression(value: Any) -> bool:
    if not isinstance(value, str) or not value:
        return False
    try:
        re.compile(value)
    except re.error:
        return False
    return True


def _is_share(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value) and value >= 0


_KEYS = {
    "PARAMS": EntryKey(_is_expression, "a regular expression to search for in parameter names", required=True),
    "LR_MULTI": EntryKey(_is_share, "a number >= 0"),
    "WEIGHT_DECAY": EntryKey(_is_share, "a number >= 0"),
}
