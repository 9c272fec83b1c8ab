"""Overview of the report: a row of scores, costs and times for each run and dataset, and the training curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dl_lib.evaluation.report.tables import COST_LABELS
from dl_lib.utils.metrics_file import thin_out
from dl_lib.visualization.curves import draw_curves, select_scalars
from dl_lib.visualization.figure import to_bytes
from dl_lib.web.pages.embedding import data_uri
from dl_lib.web.report.run_data import RunData
from dl_lib.web.report.values import compact, duration, number, percent

__all__ = ["COLUMNS", "MOST_CURVES", "curves_of", "overview_rows"]

MOST_CURVES = 48
_MOST_POINTS = 500  # of a curve, which is 370 pixels wide

COLUMNS = (
    *("mIoU (%)", "pixel accuracy (%)"),
    *(f"{label} GFLOPs" for label in COST_LABELS.values()),
    *("ms per image", "parameters", "training time", "images"),
)


def overview_rows(runs: Sequence[RunData]) -> list[dict[str, Any]]:
    """Return run, dataset and the cells of `COLUMNS` for each evaluation; those of one dataset follow each other."""
    datasets = dict.fromkeys(name for run in runs for name in run.datasets)
    return [
        {"run": run.name, "dataset": name, "cells": _cells(run, run.datasets[name].values)}
        for name in datasets
        for run in runs
        if name in run.datasets
    ]


def curves_of(runs: Sequence[RunData]) -> dict[str, Any] | None:
    """Return the training curves of all runs, for the template; None without a curve.

    `image` is the data URL of an SVG; `num_curves` of `num_scalars` scalars are drawn. A scalar with a single value,
    such as the score of a final evaluation, is no curve.
    """
    metrics = {run.name: run.metrics for run in runs if run.metrics}
    names = dict.fromkeys(
        name for scalars in metrics.values() for name, series in scalars.items() if len(series.values) > 1
    )
    scalars = select_scalars([*names], [])
    if not scalars:
        return None
    drawn = scalars[:MOST_CURVES]
    thinned = {
        run: {name: thin_out(known[name], most=_MOST_POINTS) for name in drawn if name in known}
        for run, known in metrics.items()
    }
    image = to_bytes(draw_curves(thinned, scalars=drawn), suffix=".svg")
    return {
        "image": data_uri(image, media_type="image/svg+xml"),
        "num_curves": len(drawn),
        "num_scalars": len(scalars),
    }


def _cells(run: RunData, values: Mapping[str, Any]) -> list[str]:
    seconds = number(values, "seconds_per_image")
    return [
        percent(number(values, "mIoU")),
        percent(number(values, "pACC")),
        *(compact(number(values, "costs_gflops", kind, "avg")) for kind in COST_LABELS),
        compact(None if seconds is None else 1000 * seconds),
        compact(run.parameters),
        duration(run.training_seconds),
        compact(number(values, "images")),
    ]
