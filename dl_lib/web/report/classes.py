"""IoU of each class in the report, and its difference from the first run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dl_lib.web.report.run_data import DatasetResult
from dl_lib.web.report.values import entries, number, percent, signed_percent

__all__ = ["class_rows"]


def class_rows(results: Mapping[str, DatasetResult]) -> list[dict[str, Any]]:
    """Return a row for each class with a cell for each run: IoU, its text, and the difference from the first run.

    Args:
        results: Evaluation on one dataset by run.
    """
    classes = [entries(result.values, "classes") for result in results.values()]
    names = dict.fromkeys(name for known in classes for name in known)
    rows = []
    for name in names:
        ious = [number(known, name, "IoU") for known in classes]
        rows.append({"name": name, "cells": [_cell(iou, first=ious[0]) for iou in ious]})
    return rows


def _cell(iou: float | None, *, first: float | None) -> dict[str, Any]:
    difference = None if iou is None or first is None else iou - first
    return {"iou": iou or 0.0, "text": percent(iou), "difference": signed_percent(difference)}
