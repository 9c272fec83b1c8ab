"""Check that the files in an evaluation folder belong together, by the values that several of them have.

The files are written in turn: after a crash, or while another evaluation of the run is written, a folder
can hold files of two evaluations.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dl_lib.config import ConfigError
from dl_lib.config.errors import shortened
from dl_lib.evaluation.report.csv_files import ImageRow
from dl_lib.evaluation.report.gates_file import ImageGates
from dl_lib.evaluation.scores.report_data import ReportData
from dl_lib.utils.escaping import csv_text
from dl_lib.utils.run_files import RESULTS_NAME
from dl_lib.web.report.values import entries, number

__all__ = ["EvaluationCheck"]

_TOLERANCE = 1e-6  # gates.npz has float32

Confusion = tuple[tuple[str, ...], npt.NDArray[np.int64]]
_Value = float | tuple[str, ...]  # a number, or names


class EvaluationCheck:
    """Comparison of files with results.json, and of their image names with each other.

    Args:
        values: Entry of the dataset in results.json.
    """

    def __init__(self, values: Mapping[str, Any]) -> None:
        gates, classes = entries(values, "mean_gates"), entries(values, "classes")
        known: dict[str, _Value | None] = {
            "images": number(values, "images"),
            "mean real GFLOPs": number(values, "costs_gflops", "real", "avg"),
            "classes": len(classes) or None,
            "class names": tuple(map(csv_text, classes)) or None,
            "labelled pixels": number(values, "labelled_pixels"),
            "pixel accuracy": number(values, "pACC"),
            **{f"mean gate of {name}": number(gates, name) for name in gates},
        }
        self._known = {name: value for name, value in known.items() if value is not None}

    def images(self, rows: tuple[ImageRow, ...], path: Path) -> None:
        """Check per_image.csv."""
        costs = [row.real_gflops for row in rows]
        names = tuple(row.image_id for row in rows)
        self._check(
            {"images": len(rows), "mean real GFLOPs": math.fsum(costs) / len(costs), "image names": names}, path
        )

    def confusion(self, confusion: Confusion, path: Path) -> None:
        """Check confusion.csv."""
        names, pixels = confusion
        self._check({"classes": len(names), "class names": names, **_accuracy(np.diagonal(pixels), pixels)}, path)

    def gates(self, gates: ImageGates, path: Path) -> None:
        """Check gates.npz."""
        means = zip(gates.lattice.edges, gates.gates.mean(axis=0).tolist(), strict=True)
        found = {"images": len(gates.image_ids), **{f"mean gate of {edge}": mean for edge, mean in means}}
        self._check({**found, "image names": tuple(map(csv_text, gates.image_ids))}, path)

    def data(self, data: ReportData, path: Path) -> None:
        """Check report_data.npz."""
        counts = data.class_counts
        found = {"images": len(data.image_ids), "classes": len(data.class_colors)}
        scores = {} if counts is None else _accuracy(counts[:, 0], counts[:, 2])
        self._check({**found, **scores, "image names": tuple(map(csv_text, data.image_ids))}, path)

    def _check(self, found: Mapping[str, _Value], path: Path) -> None:
        """Compare the values of a file with the known ones, and remember the others.

        Raises:
            ConfigError: If one differs.
        """
        for name, value in found.items():
            difference = _difference(value, self._known.get(name, value))
            if difference:
                raise ConfigError(
                    f"{path} is of another evaluation than {RESULTS_NAME}; evaluate the run again. "
                    f"Received: {name}={difference}"
                )
        self._known = {**found, **self._known}


def _accuracy(correct: npt.NDArray[np.int64], labelled: npt.NDArray[np.int64]) -> dict[str, _Value]:
    pixels = int(labelled.sum())
    return {"labelled pixels": pixels, "pixel accuracy": int(correct.sum()) / max(pixels, 1)}


def _difference(found: _Value, expected: _Value) -> str:
    """Return the text of two values that differ; empty if they are equal, as far as files are exact."""
    if isinstance(found, tuple) and isinstance(expected, tuple):
        different = ((own, other) for own, other in zip(found, expected, strict=False) if own != other)
        return next((f"{shortened(own)!r} instead of {shortened(other)!r}" for own, other in different), "")
    assert not isinstance(found, tuple) and not isinstance(expected, tuple), "both are numbers"
    is_same = math.isclose(found, expected, rel_tol=_TOLERANCE, abs_tol=_TOLERANCE)
    return "" if is_same else f"{found:.10g} instead of {expected:.10g}"
