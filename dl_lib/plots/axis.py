"""From values to places along an edge of a chart, and the numbers that stand there."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

__all__ = ["Axis", "axis_by_range", "axis_over", "log_axis_over", "short_number"]

_MARGIN = 0.05  # of the range, at either end
_FROM_ZERO_BELOW = 0.5  # the lowest value as a share of the highest, up to which an axis begins with 0
_LOG_FROM = 30.0  # ratio of the highest to the lowest value from which on ratios are shown evenly
_MOST_TICKS = 5
_MANTISSAS = (1.0, 2.0, 5.0, 10.0)
_FEW_DECADES = 1.2  # below, powers of ten alone would be too few


@dataclass(frozen=True)
class Axis:
    """A range of values, in even steps or in even ratios.

    Attributes:
        low: value at the beginning.
        high: value at the end, above `low`.
        is_log: whether equal ratios are equally far; both ends are above 0 then.
    """

    low: float
    high: float
    is_log: bool = False

    def place(self, value: float) -> float:
        """Where a value is: 0 at `low`, 1 at `high`."""
        low, high, at = (self._moved(number) for number in (self.low, self.high, value))
        return (at - low) / (high - low)

    def ticks(self) -> list[float]:
        """Round numbers inside the range, about as many as can be read."""
        if not self.is_log:
            return _multiples(self.low, self.high)
        first, last = math.ceil(math.log10(self.low) - 1e-9), math.floor(math.log10(self.high) + 1e-9)
        if math.log10(self.high / self.low) < _FEW_DECADES:
            numbers = [m * 10.0**power for power in range(first - 1, last + 1) for m in _MANTISSAS[:-1]]
            inside = [number for number in numbers if self.low <= number <= self.high]
            return inside if len(inside) > 1 else _multiples(self.low, self.high)
        step = math.ceil((last - first + 1) / _MOST_TICKS)
        return [10.0**power for power in range(first, last + 1, step)]

    def _moved(self, value: float) -> float:
        return math.log10(value) if self.is_log else value


def axis_over(values: Iterable[float]) -> Axis:
    """An even axis that holds all values, and begins with 0 where that costs little room.

    Args:
        values: finite; one at least.
    """
    numbers = list(values)
    low, high = min(numbers), max(numbers)
    if 0 <= low < _FROM_ZERO_BELOW * high:
        return Axis(0.0, high * (1 + _MARGIN))
    margin = _MARGIN * ((high - low) or abs(high) or 1.0)
    return Axis(low - margin, high + margin)


def log_axis_over(values: Iterable[float]) -> Axis:
    """An axis in ratios that holds all values, which are above 0; one at least."""
    numbers = list(values)
    low, high = min(numbers), max(numbers)
    margin = (high / low) ** _MARGIN if high > low else 1.1
    return Axis(low / margin, high * margin, is_log=True)


def axis_by_range(values: Iterable[float]) -> Axis:
    """An even axis, or one in ratios where the highest value is many times the lowest; of one value at least."""
    numbers = list(values)
    is_log = min(numbers) > 0 and max(numbers) > _LOG_FROM * min(numbers)
    return log_axis_over(numbers) if is_log else axis_over(numbers)


def short_number(value: float) -> str:
    """A number as it is written beside an axis: 0.05, 12, 190k, 2M, 1e-5."""
    for factor, unit in ((1e6, "M"), (1e3, "k")):
        if abs(value) >= 10 * factor or (abs(value) >= factor and value % factor == 0):
            return f"{value / factor:g}{unit}"
    text = f"{value:.4g}"
    mantissa, e, exponent = text.partition("e")
    return f"{mantissa}e{int(exponent)}" if e else text


def _multiples(low: float, high: float) -> list[float]:
    """Multiples of 1, 2 or 5 times a power of ten."""
    rough = (high - low) / _MOST_TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(mantissa * power for mantissa in _MANTISSAS if mantissa * power >= rough * (1 - 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [number * step for number in range(first, last + 1)]
