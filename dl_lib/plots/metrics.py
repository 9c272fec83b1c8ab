"""What a run has written down about itself, read again."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dl_lib.config import ConfigError
from dl_lib.utils.run_files import METRICS_NAME

__all__ = ["Series", "read_metrics"]

_ITERATION = "iteration"


@dataclass(frozen=True)
class Series:
    """One scalar over the training: ascending iterations (steps done), and its value at each."""

    iterations: tuple[int, ...]
    values: tuple[float, ...]


def read_metrics(folder: Path) -> dict[str, Series]:
    """All scalars in a run's folder by name, in the order in which they first come.

    A last line that is cut off, as of a run that is just writing or was killed, is left out.

    Raises:
        ConfigError: if there is no file, nothing in it yet, or something else than a run writes there.
    """
    path = folder / METRICS_NAME
    try:
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"there are no metrics in this folder; name a run's folder, with the {METRICS_NAME} of its training. "
            f"Received: RUN={str(folder)!r} ({error})"
        ) from error
    if lines and not lines[-1].endswith("\n"):
        lines.pop()
    points: dict[str, dict[int, float]] = {}
    for number, line in enumerate(lines, 1):
        scalars = _read_line(line, place=f"{path}, line {number}")
        iteration = scalars.pop(_ITERATION)
        for name, value in scalars.items():
            points.setdefault(name, {})[int(iteration)] = float(value)
    if not points:
        raise ConfigError(
            f"nothing has been written down yet; wait for LOG_PERIOD iterations of the run. Received: {path}"
        )
    return {name: _series(by_iteration) for name, by_iteration in points.items()}


def _series(by_iteration: Mapping[int, float]) -> Series:
    iterations = sorted(by_iteration)
    return Series(tuple(iterations), tuple(by_iteration[iteration] for iteration in iterations))


def _read_line(line: str, *, place: str) -> dict[str, Any]:
    try:
        scalars = json.loads(line)
    except ValueError:
        scalars = None
    if not isinstance(scalars, dict) or type(scalars.get(_ITERATION)) is not int or not _are_numbers(scalars):
        raise ConfigError(
            f"{place} is none that a training writes: an object with its {_ITERATION} and finite numbers. "
            f"Received: {line.strip():.80}"
        )
    return scalars


def _are_numbers(scalars: Mapping[str, Any]) -> bool:
    return all(type(value) in (int, float) and math.isfinite(value) for value in scalars.values())
