"""Rows of `does_routing_pay.py`, one per training run, and the table and figure that summarize them."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from report import Table
from routing_plan import HARD_GROUP, SMP_GROUP, Row, Variant, real_gflops

from dl_lib.config import ConfigError
from dl_lib.utils.files import write_atomically
from dl_lib.visualization.tradeoff import Series

COLUMNS = {
    "network": "",
    "mIoU (%)": ">s",
    "GFLOPs": ">s",
    "GFLOPs of the images": ">s",
    "routes": ">s",
    "image-dependent edges": ">s",
    "parameters": ",.0f",
    "iterations": ",.0f",
    "training (s)": ".0f",
    "difference to hard gates (%)": ">s",
    "at budget": "",
    "runs": "d",
}


MEASURED = {"mIoU", "costs_gflops", "parameters", "iterations", "training_seconds", "machine"}  # in every row


class RowFile:
    """Rows by (data set, variant, seed, digest of the settings) in a file with one JSON object per line.

    Args:
        path: File; it need not exist.

    Raises:
        ConfigError: If a line is not a row.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._rows: dict[tuple[str | int, ...], Row] = {}
        lines = path.read_bytes().splitlines() if path.exists() else []
        for number, line in enumerate(lines, 1):
            try:
                row = json.loads(line)
                if absent := MEASURED - row.keys():
                    raise KeyError(*sorted(absent))
                self._rows[_key(row)] = row
            except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
                raise ConfigError(
                    f"every line of {path} must be the row of a run; restore the file, or remove the line. "
                    f"Received: line {number}, {line[:80].decode(errors='replace')!r} ({type(error).__name__}: {error})"
                ) from error

    def get(self, *key: str | int) -> Row | None:
        """Return the row of a data set, variant, seed and digest, if there is one."""
        return self._rows.get(key)

    def add(self, row: Row) -> None:
        """Add a row and write the file."""
        self._rows[_key(row)] = row
        lines = [json.dumps(self._rows[key], sort_keys=True) for key in sorted(self._rows)]
        write_atomically(self.path, "\n".join(lines) + "\n")


@dataclass(frozen=True)
class Line:
    """Rows of one line of the table, at least one."""

    name: str
    group: str
    rows: Sequence[Row]

    def values(self, value: Callable[[Row], float]) -> list[float]:
        return [value(row) for row in self.rows]

    @property
    def gflops(self) -> float:
        """Mean real cost."""
        return statistics.mean(self.values(real_gflops))


def _key(row: Row) -> tuple[str | int, ...]:
    return row["data_set"], row["variant"], int(row["seed"]), row["digest"]


def percent_miou(row: Row) -> float:
    """Return the mIoU in percent."""
    return 100 * row["mIoU"]


def lines_of(rows: Iterable[Row], variants: Sequence[Variant]) -> list[Line]:
    """Return the lines of one data set in the order of the variants."""
    rows, names = list(rows), dict.fromkeys((variant.line, variant.group) for variant in variants)
    members = {variant.name: variant.line for variant in variants}
    lines = [Line(name, group, [row for row in rows if members[row["variant"]] == name]) for name, group in names]
    return [line for line in lines if line.rows]


def mean_and_deviation(values: Sequence[float], *, digits: int, sign: str = "") -> str:
    """Return the mean of some values, with their standard deviation if there are several."""
    text = f"{statistics.mean(values):{sign}.{digits}f}"
    return f"{text} ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else text


def nearest_hard(line: Line, lines: Sequence[Line]) -> Line | None:
    """Return the line of hard gates with the nearest mean cost, as a ratio; None for those lines themselves."""
    hard = [other for other in lines if other.group == HARD_GROUP]
    if line in hard or not hard:
        return None
    return min(hard, key=lambda other: abs(math.log(other.gflops / line.gflops)))


def paired_differences(line: Line, reference: Line) -> list[float]:
    """Return the mIoU (%) of each run minus that of the reference with the same seed, if there is one."""
    by_seed = {row["seed"]: percent_miou(row) for row in reference.rows}
    return [percent_miou(row) - by_seed[row["seed"]] for row in line.rows if row["seed"] in by_seed]


def summary_table(title: str, lines: Sequence[Line]) -> Table:
    """Return the table of one data set."""
    return Table(title, COLUMNS, [_table_row(line, nearest_hard(line, lines)) for line in lines])


def _table_row(line: Line, reference: Line | None) -> tuple[Any, ...]:
    differences = [] if reference is None else paired_differences(line, reference)
    costs = [row["costs_gflops"]["real_complete"] for row in line.rows]
    routes = [row["distinct_routes"] for row in line.rows if row["distinct_routes"] is not None]
    dependent = [100 * row["image_dependent_edges"] for row in line.rows if row["image_dependent_edges"] is not None]
    return (
        line.name,
        mean_and_deviation(line.values(percent_miou), digits=2),
        mean_and_deviation(line.values(real_gflops), digits=4),
        f"{min(cost['min'] for cost in costs):.4f} to {max(cost['max'] for cost in costs):.4f}",
        mean_and_deviation(routes, digits=0) if routes else "-",
        f"{statistics.mean(dependent):.0f} %" if dependent else "-",
        statistics.mean(row["parameters"] for row in line.rows),
        statistics.mean(row["iterations"] for row in line.rows),
        statistics.mean(row["training_seconds"] for row in line.rows),
        mean_and_deviation(differences, digits=2, sign="+") if differences else "",
        reference.name.rpartition(" ")[2] if reference is not None and differences else "",
        len(line.rows),
    )


def figure_series(lines: Sequence[Line]) -> list[Series]:
    """Return the series of one panel: one per group, except that networks of other packages are one each."""
    series: dict[str, list[Line]] = {}
    for line in lines:
        series.setdefault(line.name if line.group == SMP_GROUP else line.group, []).append(line)
    return [
        Series(
            name,
            costs=[line.values(real_gflops) for line in members],
            scores=[line.values(percent_miou) for line in members],
        )
        for name, members in series.items()
    ]


def machines(rows: Iterable[Row]) -> Mapping[str, str]:
    """Return the facts about machine and versions; different values of a fact are separated by semicolons."""
    facts: dict[str, dict[str, None]] = {}
    for row in rows:
        for name, value in row["machine"].items():
            facts.setdefault(name, {})[value.partition("T")[0] if name == "date" else value] = None
    return {name: "; ".join(sorted(values)) for name, values in facts.items()}
