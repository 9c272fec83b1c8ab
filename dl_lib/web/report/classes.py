"""IoU of each class in the report, its confidence interval, and its difference from the first run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from dl_lib.evaluation.scores.bootstrap import IouIntervals, bootstrap_difference, bootstrap_iou
from dl_lib.evaluation.scores.report_data import ReportData
from dl_lib.web.report.run_data import DatasetResult
from dl_lib.web.report.values import entries, number, percent, signed_percent

__all__ = ["class_rows"]

_Name = str | None  # of a class; None for their mean


def class_rows(results: Mapping[str, DatasetResult]) -> list[dict[str, Any]]:
    """Return a row for the mIoU, without a name, and for each class; none without scores.

    A row has a cell for each run: IoU and its text, confidence interval, and difference from the first run.

    Args:
        results: Evaluation on one dataset by run.
    """
    first, *_ = results.values()
    runs = [_cells(result, first=first) for result in results.values()]
    names = dict.fromkeys(name for cells in runs for name in cells)
    missing = {"iou": 0.0, "text": percent(None), "interval": "", "difference": "", "difference_interval": ""}
    return [{"name": name, "cells": [cells.get(name, missing) for cells in runs]} for name in names]


def _cells(result: DatasetResult, *, first: DatasetResult) -> dict[_Name, dict[str, Any]]:
    scores, before = _scores(result), _scores(first)
    own, change = (
        _by_name(intervals, scores) for intervals in (_intervals(result.data), _differences(first.data, result.data))
    )
    cells = {}
    for name, iou in scores.items():
        old = before.get(name)
        cells[name] = {
            "iou": iou or 0.0,
            "text": percent(iou),
            "interval": own.get(name, ""),
            "difference": signed_percent(None if iou is None or old is None else iou - old),
            "difference_interval": change.get(name, ""),
        }
    return cells


def _scores(result: DatasetResult) -> dict[_Name, float | None]:
    classes = entries(result.values, "classes")
    if not classes:
        return {}
    return {None: number(result.values, "mIoU"), **{name: number(classes, name, "IoU") for name in classes}}


def _intervals(data: ReportData | None) -> IouIntervals | None:
    return None if data is None or data.class_counts is None else bootstrap_iou(data.class_counts)


def _differences(first: ReportData | None, second: ReportData | None) -> IouIntervals | None:
    """Return the intervals of the differences; None unless two runs have data of the same images and classes."""
    if first is second or first is None or second is None or first.class_counts is None or second.class_counts is None:
        return None
    rows = {image_id: row for row, image_id in enumerate(second.image_ids)}
    if rows.keys() != {*first.image_ids} or first.class_counts.shape != second.class_counts.shape:
        return None
    return bootstrap_difference(first.class_counts, second.class_counts[[rows[name] for name in first.image_ids]])


def _by_name(intervals: IouIntervals | None, scores: Mapping[_Name, float | None]) -> dict[_Name, str]:
    """Return the text of the interval of each name, in percent."""
    if intervals is None or len(intervals.classes) != len(scores) - 1:
        return {}
    both = np.vstack([intervals.mean, intervals.classes])
    return {
        name: f"{100 * low:.1f} to {100 * high:.1f}"
        for name, (low, high) in zip(scores, both.tolist(), strict=True)
        if low == low  # not NaN
    }
