"""Reader of the metrics file of a training run: one JSON object with the logged scalars per line."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dl_lib.utils.run_files import METRICS_NAME

__all__ = ["MetricsFileError", "Series", "read_metrics"]

_ITERATION = "iteration"


class MetricsFileError(ValueError):
    """Metrics file that is missing, empty or invalid."""


@dataclass(frozen=True)
class Series:
    """Logged values of one scalar.

    Attributes:
        iterations: Optimizer steps done at each value, ascending.
        values: Value at each iteration.
    """

    iterations: tuple[int, ...]
    values: tuple[float, ...]


def read_metrics(folder: Path) -> dict[str, Series]:
    """Return all scalars of a run by name, in the order of their first appearance.

    An incomplete last line, as in a running or killed run, is skipped. If an iteration has several values, the last one
    is used.

    Args:
        folder: Output folder of the run.

    Raises:
        MetricsFileError: If the file is missing, has no complete line, or has an invalid one.
    """
    path = folder / METRICS_NAME
    try:
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    except (OSError, UnicodeDecodeError) as error:
        raise MetricsFileError(
            f"cannot read {METRICS_NAME}; pass the output folder of a training run. "
            f"Received: RUN={str(folder)!r} ({error})"
        ) from error
    if lines and not lines[-1].endswith("\n"):
        lines.pop()
    points: dict[str, dict[int, float]] = {}
    for number, line in enumerate(lines, 1):
        scalars = _parse_line(line, location=f"{path}, line {number}")
        iteration = scalars.pop(_ITERATION)
        for name, value in scalars.items():
            points.setdefault(name, {})[int(iteration)] = float(value)
    if not points:
        raise MetricsFileError(
            f"{METRICS_NAME} has no metrics yet; the first ones follow after LOG_PERIOD iterations. Received: {path}"
        )
    return {name: _series(by_iteration) for name, by_iteration in points.items()}


def _series(by_iteration: Mapping[int, float]) -> Series:
    iterations = sorted(by_iteration)
    return Series(tuple(iterations), tuple(by_iteration[iteration] for iteration in iterations))


def _parse_line(line: str, *, location: str) -> dict[str, Any]:
    try:
        scalars = json.loads(line)
    except ValueError:
        scalars = None
    if not isinstance(scalars, dict) or type(scalars.get(_ITERATION)) is not int or not _are_numbers(scalars):
        raise MetricsFileError(
            f"{location}: expected a JSON object with an integer {_ITERATION!r} and finite numbers. "
            f"Received: {line.strip():.80}"
        )
    return scalars


def _are_numbers(scalars: Mapping[str, Any]) -> bool:
    return all(type(value) in (int, float) and math.isfinite(value) for value in scalars.values())
