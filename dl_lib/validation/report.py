"""The list that checks write their findings to."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

from dl_lib.config.config_node import CfgNode
from dl_lib.config.errors import ConfigError
from dl_lib.utils.names import nearest_names

__all__ = ["Interval", "Purpose", "Report"]

Purpose = Literal["training", "evaluation"]


@dataclass(frozen=True)
class Interval:
    """The numbers from `low` to `high`; an end counts as inside unless it is said to be open."""

    low: float
    high: float = math.inf
    open_low: bool = False
    open_high: bool = False

    def __contains__(self, value: float) -> bool:
        above = value > self.low if self.open_low else value >= self.low
        below = value < self.high if self.open_high else value <= self.high
        return above and below

    def __str__(self) -> str:
        if self.high == math.inf:
            return f"a number {'above' if self.open_low else 'not below'} {self.low:g}"
        return f"a number in {'(' if self.open_low else '['}{self.low:g}, {self.high:g}{')' if self.open_high else ']'}"


class Report:
    """Collects what is wrong with one configuration, a line for each problem.

    Args:
        cfg: the configuration looked at.
        world_size: number of processes that will work together.
        purpose: what they will do.
    """

    def __init__(self, cfg: CfgNode, *, world_size: int, purpose: Purpose) -> None:
        self.world_size = world_size
        self.purpose = purpose
        self.problems: list[str] = []
        self.cfg = cfg
        self._values = cfg.flat()

    @property
    def trains(self) -> bool:
        """Whether the processes will train."""
        return self.purpose == "training"

    def value(self, key: str) -> Any:
        """What the configuration holds under a full key name."""
        return self._values[key]

    def add(self, key: str, wrong: str, *, expected: str = "", mend: str = "") -> None:
        """Note a problem: the key, what is wrong, what was expected and how to mend it."""
        parts = [wrong, f"expected {expected}" if expected else "", mend]
        sentences = ". ".join(part[0].upper() + part[1:] for part in parts[1:] if part)
        received = f"Received: {key}={self.value(key)!r}"
        self.problems.append(f"{key}: {wrong}. " + (f"{sentences}. " if sentences else "") + received)

    def one_of(self, key: str, names: Iterable[str], *, what: str) -> None:
        """Note a value that is none of `names`."""
        if self.value(key) not in (known := list(names)):
            self.add(key, f"no {what} has this name", mend=nearest_names(self.value(key), known))

    def collect(self, check: Callable[..., object], *args: Any, **kwargs: Any) -> bool:
        """Call a check of the library and add the message of its ConfigError; return whether it passed."""
        try:
            check(*args, **kwargs)
        except ConfigError as error:
            self.problems.append(str(error))
            return False
        return True

    def within(self, key: str, interval: Interval) -> bool:
        """Note a value outside `interval`; says whether it lies inside."""
        if inside := self.value(key) in interval:
            return inside
        self.add(key, "out of range", expected=str(interval))
        return inside
