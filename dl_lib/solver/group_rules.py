"""Rules of `SOLVER.OPTIMIZER.GROUPS`: learning rate and weight decay for parameters matched by name."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from dl_lib.config.entries import EntryKey, entry_problems
from dl_lib.config.errors import ConfigError, numbered
from dl_lib.utils.names import nearest_names

__all__ = ["GroupRule", "check_rules_match", "first_match", "group_rule_problems", "read_group_rules"]

_KEY = "SOLVER.OPTIMIZER.GROUPS"
_MAX_FACTOR = 1_000_000


@dataclass(frozen=True)
class GroupRule:
    """Settings of the parameters whose names match a regular expression.

    Attributes:
        params: Regular expression, searched anywhere in the name unless it is anchored.
        lr_multi: Learning rate as a multiple of the base learning rate; None keeps the default.
        weight_decay: Weight decay; None keeps the default.
    """

    params: str
    lr_multi: float | None = None
    weight_decay: float | None = None


def read_group_rules(entries: Sequence[Any]) -> tuple[GroupRule, ...]:
    """Return the rules of `SOLVER.OPTIMIZER.GROUPS`, in order.

    Raises:
        ConfigError: If entries are invalid; the message lists all problems.
    """
    if problems := group_rule_problems(entries):
        raise ConfigError(numbered(f"{_KEY} is invalid", problems))
    return tuple(
        GroupRule(entry["PARAMS"], lr_multi=entry.get("LR_MULTI"), weight_decay=entry.get("WEIGHT_DECAY"))
        for entry in entries
    )


def group_rule_problems(entries: Sequence[Any]) -> list[str]:
    """Return the problems of the entries that can be found without a model, one line each."""
    problems: list[str] = []
    expressions: set[str] = set()
    for number, entry in enumerate(entries):
        name = f"{_KEY}[{number}]"
        found = entry_problems(entry, name=name, keys=_KEYS)
        if not found and entry.keys() == {"PARAMS"}:
            found = [f"{name} must set LR_MULTI, WEIGHT_DECAY or both. Received: {name}={entry}"]
        if not found and entry["PARAMS"] in expressions:
            found = [f"{name}.PARAMS repeats an earlier entry. Received: {name}.PARAMS={entry['PARAMS']!r}"]
        if not found:
            expressions.add(entry["PARAMS"])
        problems += found
    return problems


def first_match(name: str, *, rules: Sequence[GroupRule]) -> int | None:
    """Return the index of the first rule that matches a parameter name, or None."""
    return next((index for index, rule in enumerate(rules) if re.search(rule.params, name)), None)


def check_rules_match(rules: Sequence[GroupRule], *, names: Iterable[str], used: Iterable[int]) -> None:
    """Check that every rule applies to a trainable parameter; `used` are the indices of the rules that do.

    Raises:
        ConfigError: If a rule applies to none; the message lists similar names.
    """
    unused = [index for index in range(len(rules)) if index not in set(used)]
    if unused:
        problems = [_unused(rules[index].params, key=f"{_KEY}[{index}].PARAMS", names=list(names)) for index in unused]
        raise ConfigError(numbered("the optimizer cannot be built", problems))


def _unused(params: str, *, key: str, names: Sequence[str]) -> str:
    received = f"Received: {key}={params!r}"
    if matched := [name for name in names if re.search(params, name)]:
        return (
            f"{key} has no effect: earlier entries match all {len(matched)} of its parameters, such as {matched[0]}, "
            f"and the first match applies; move this entry up. {received}"
        )
    prefixes = {name.rsplit(".", depth)[0] for name in names for depth in range(name.count(".") + 1)}
    near = nearest_names(re.sub(r"[\\^$]", "", params).rstrip("."), prefixes)
    return f"{key} must match the name of a trainable parameter; {near}. {received}"


def _is_expression(value: Any) -> bool:
    if not isinstance(value, str) or not value:
        return False
    try:
        re.compile(value)
    except (re.error, OverflowError, RecursionError):  # a repetition of 2**32 times, thousands of parentheses
        return False
    return True


def _is_factor(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= _MAX_FACTOR


_KEYS = {
    "PARAMS": EntryKey(_is_expression, "a regular expression to search for in parameter names", required=True),
    "LR_MULTI": EntryKey(_is_factor, f"a number in [0, {_MAX_FACTOR}]"),
    "WEIGHT_DECAY": EntryKey(_is_factor, f"a number in [0, {_MAX_FACTOR}]"),
}
