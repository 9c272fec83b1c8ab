"""Metrics file of a training run: one JSON object per line, with the scalars logged at one iteration."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dl_lib.utils.files import read_regular
from dl_lib.utils.run_files import METRICS_NAME

__all__ = ["ITERATION", "MetricsFileError", "Series", "parse_line", "read_lines", "read_metrics", "thin_out"]

ITERATION = "iteration"  # key of the completed optimizer steps in each line

_MAX_BYTES = 2**30
_MAX_VALUE = 1e100  # far above float32, far below an overflow in a figure
_MAX_ITERATION = 2**53  # exact as a float


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
        lines = read_lines(path)
    except OSError as error:
        raise MetricsFileError(
            f"cannot read {METRICS_NAME}: {error.strerror or error}; pass the output folder of a training run. "
            f"Received: RUN={str(folder)!r}"
        ) from error
    points: dict[str, dict[int, float]] = {}
    for number, line in enumerate(lines, 1):
        scalars = parse_line(line)
        if scalars is None:
            raise MetricsFileError(
                f"{path}, line {number}: expected a JSON object with a positive integer {ITERATION!r} and "
                f"numbers up to {_MAX_VALUE:g}; remove the line, or resume the run, which keeps the valid lines. "
                f"Received: {line.decode(errors='backslashreplace').strip():.80}"
            )
        iteration = scalars.pop(ITERATION)
        for name, value in scalars.items():
            points.setdefault(name, {})[int(iteration)] = float(value)
    if not points:
        raise MetricsFileError(
            f"{METRICS_NAME} has no metrics yet; the first ones follow after LOG_PERIOD iterations. Received: {path}"
        )
    return {name: _series(by_iteration) for name, by_iteration in points.items()}


def thin_out(series: Series, *, most: int) -> Series:
    """Return at most `most` of the values, an even number: the smallest and the largest one of each interval."""
    count = len(series.values)
    if count <= most:
        return series
    ends = [part * count // (most // 2) for part in range(most // 2 + 1)]
    kept = sorted(
        {
            extreme(range(start, end), key=series.values.__getitem__)
            for start, end in itertools.pairwise(ends)
            for extreme in (min, max)
        }
    )
    return Series(tuple(series.iterations[at] for at in kept), tuple(series.values[at] for at in kept))


def read_lines(path: Path) -> list[bytes]:
    """Return the lines of a metrics file; without the last one if it is incomplete, as in a running or killed run.

    Raises:
        OSError: If the file is missing, not a regular file or larger than 1 GiB.
    """
    *lines, last = read_regular(path, max_bytes=_MAX_BYTES).split(b"\n")
    is_cut_off = not last or (last.startswith(b"{") and parse_line(last) is None)
    return lines if is_cut_off else [*lines, last]  # damage, or a line whose line break an editor has removed


def parse_line(line: bytes) -> dict[str, Any] | None:
    """Return `iteration` and the scalars of a line; None if it is invalid."""
    try:
        scalars = json.loads(line.decode())
        is_valid = type(scalars[ITERATION]) is int and 0 < scalars[ITERATION] <= _MAX_ITERATION
        return scalars if is_valid and all(map(_is_plausible, scalars.values())) else None
    except (ValueError, TypeError, LookupError, RecursionError, AttributeError):
        return None


def _is_plausible(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) <= _MAX_VALUE  # False for NaN


def _series(by_iteration: Mapping[int, float]) -> Series:
    iterations = sorted(by_iteration)
    return Series(tuple(iterations), tuple(by_iteration[iteration] for iteration in iterations))
