"""Declaration of a config key: default, documentation, unit, and the values it accepts."""

from __future__ import annotations

import enum
import importlib
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Literal, get_args

from dl_lib.config.errors import shown
from dl_lib.utils.names import close_names

__all__ = ["ConfigKey", "Interval", "Order", "Reference", "key"]

Order = Literal["any", "unique", "ascending", "strictly ascending"]

_MAX_LENGTH = 1000
_INTERVAL = re.compile(r"([\[(])(-?[\d.]+), (inf|-?[\d.]+)([\])])")


@dataclass(frozen=True)
class Interval:
    """Interval of numbers; both ends are included by default."""

    low: float
    high: float = math.inf
    open_low: bool = False
    open_high: bool = False

    @classmethod
    def parse(cls, text: str) -> Interval:
        """Read the usual notation, such as `[0, 1)` or `(0, inf)`."""
        match = _INTERVAL.fullmatch(text)
        if match is None:
            raise ValueError(f"an interval must have the form '[0, 1)' or '(0, inf)'. Received: {text!r}")
        left, low, high, right = match.groups()
        return cls(float(low), float(high), left == "(", right == ")")

    def __contains__(self, value: float) -> bool:
        above = value > self.low if self.open_low else value >= self.low
        below = value < self.high if self.open_high else value <= self.high
        return above and below

    def __str__(self) -> str:
        if self.high == math.inf:
            return f"{'>' if self.open_low else '>='} {self.low:.15g}"
        return f"in {'(' if self.open_low else '['}{self.low:.15g}, {self.high:.15g}{')' if self.open_high else ']'}"


@dataclass(frozen=True)
class Reference:
    """Reference to the choices of a key in the module that implements them, imported on demand."""

    target: str  # `module:attribute` of a fvcore registry, a mapping, an `Enum` or a sequence of names

    def resolve(self) -> tuple[Any, ...]:
        """Import the module and return the choices; names of registries are sorted."""
        module, _, attribute = self.target.partition(":")
        found = getattr(importlib.import_module(module), attribute)
        if isinstance(found, type) and issubclass(found, enum.Enum):
            return tuple(member.value for member in found)
        if hasattr(found, "register"):
            return tuple(sorted(name for name, _ in found))
        return tuple(found)


@dataclass(frozen=True)
class ConfigKey:
    """Declared config key; the attributes are the arguments of `key`, with `range` as an `Interval`."""

    name: str
    default: Any
    doc: str
    unit: str = ""
    interval: Interval | None = None
    choices: tuple[Any, ...] | Reference = ()
    special: Mapping[Any, str] = field(default_factory=dict)
    items: type | None = None
    length: int | None = None
    min_length: int = 0
    max_length: int = _MAX_LENGTH
    order: Order = "any"
    is_path: bool = False
    path_entries: tuple[str, ...] = ()
    accepts_text: bool = False

    @property
    def section(self) -> str:
        """Name without its last component; empty at the top level."""
        return self.name.rpartition(".")[0]

    @property
    def type_name(self) -> str:
        """Type as it is written in Python, such as `list[int]`."""
        return f"list[{self.items.__name__}]" if self.items is not None else type(self.default).__name__

    def resolve_choices(self) -> tuple[Any, ...]:
        """Return the accepted values; empty if any value is accepted, or the registry is empty."""
        return self.choices.resolve() if isinstance(self.choices, Reference) else self.choices

    def problem(self, value: Any) -> str | None:
        """Return the reason that a value of the right type is rejected; None if it is accepted."""
        if self._is_special(value):
            return None
        requirement = self._list_problem(value) if self.items is not None else self._element_problem([value])
        if requirement is None:
            return None
        alternatives = "".join(f", or {other} ({meaning})" for other, meaning in self.special_values())
        return f"{self.name} must {requirement}{alternatives}. Received: {self.name}={shown(value)}"

    def special_values(self) -> Iterator[tuple[str, str]]:
        """Yield the values accepted in addition, as written in a config, and their meanings, as plain text."""
        for value, meaning in self.special.items():
            yield repr(list(value) if isinstance(value, tuple) else value), meaning.replace("`", "")

    def _is_special(self, value: Any) -> bool:
        if isinstance(value, (list, tuple)):
            return any(isinstance(other, tuple) and list(other) == list(value) for other in self.special)
        return isinstance(value, (str, int, float)) and value in self.special

    def _list_problem(self, values: Sequence[Any]) -> str | None:
        if self.length is not None and len(values) != self.length:
            return f"have {self.length} elements"
        if len(values) < self.min_length:
            return f"have at least {self.min_length} element{'s' if self.min_length > 1 else ''}"
        if len(values) > self.max_length:
            return f"have at most {self.max_length} elements"
        if problem := self._element_problem(values):
            return problem
        if self.order == "unique":
            return "not contain a value twice" if len(set(values)) < len(values) else None
        if self.order == "any" or all(a < b or (a == b and self.order == "ascending") for a, b in pairwise(values)):
            return None
        return f"be in {self.order} order"

    def _element_problem(self, values: Iterable[Any]) -> str | None:
        be = "contain only values" if self.items is not None else "be"
        choices = self.resolve_choices()
        for value in values:
            if self.interval is not None and value not in self.interval:
                return f"{be} {self.interval}"
            if isinstance(value, float) and not math.isfinite(value):
                return f"{be} finite"
            if isinstance(self.choices, Reference) and not choices:
                return f"{be} registered in {self.choices.target}, which is empty; register it in net.py"
            if choices and value not in choices:
                near = close_names(str(value), map(str, choices))
                hint = f" (nearest to {shown(value)}: {', '.join(near)})" if near else ""
                return f"{be} {'from' if self.items is not None else 'one of'} {', '.join(map(str, choices))}{hint}"
        return None


def key(
    name: str,
    default: Any,
    doc: str,
    *,
    unit: str = "",
    range: str | None = None,
    choices: Any = (),
    special: Mapping[Any, str] | None = None,
    items: type | None = None,
    length: int | None = None,
    min_length: int = 0,
    max_length: int = _MAX_LENGTH,
    order: Order = "any",
    is_path: bool = False,
    path_entries: tuple[str, ...] = (),
    accepts_text: bool = False,
) -> ConfigKey:
    """Declare a config key.

    Args:
        name: Full name, such as `SOLVER.OPTIMIZER.BASE_LR`.
        default: Value in `get_cfg()`; its type is the type of the key.
        doc: Meaning, in one sentence or two; Markdown.
        unit: Unit of the value, such as `pixels`.
        range: Accepted numbers, such as `[0, 1)` or `(0, inf)`; of a list, of each element.
        choices: `Literal` type, tuple or `Reference` of accepted values; of a list, of each element.
        special: Values accepted in addition, with their meaning; a tuple stands for a list.
        items: Type of the elements of a list that is empty by default.
        length: Number of elements of a list.
        min_length: Smallest number of elements of a list.
        max_length: Largest number of elements of a list.
        order: Requirement on the elements of a list.
        is_path: Whether the value is a path, in which `~` and `$VARIABLE` are expanded.
        path_entries: Names of the data paths in the entries of a list of dicts.
        accepts_text: Whether text stands for a list of this one element.

    Raises:
        ValueError: If the default is an empty list and `items` is missing, or the range is malformed.
    """
    if default == [] and items is None:
        raise ValueError(f"items must be the type of the elements of an empty list. Received: {name}=[]")
    if isinstance(default, list) and items is None:
        items = type(default[0])
    return ConfigKey(
        name,
        default,
        doc,
        unit=unit,
        interval=None if range is None else Interval.parse(range),
        choices=choices if isinstance(choices, (tuple, Reference)) else get_args(choices),
        special=special or {},
        items=items,
        length=length,
        min_length=min_length,
        max_length=max_length,
        order=order,
        is_path=is_path,
        path_entries=path_entries,
        accepts_text=accepts_text,
    )
