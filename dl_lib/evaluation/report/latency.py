"""Predicted and measured latency of the images in reports."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Any

from dl_lib.evaluation.report.formatting import format_table
from dl_lib.evaluation.scores.latency import LatencySummary

__all__ = ["latency_as_dict", "latency_remarks", "latency_tables"]


def latency_tables(latency: LatencySummary | None, *, style: str) -> list[str]:
    """Return a table with the predicted and the measured latency; none without predictions."""
    if latency is None or not latency.pairs:
        return []
    predicted, measured = zip(*latency.pairs, strict=True)
    rows = [[name, *map(_format, _statistics(ms).values())] for name, ms in _named(predicted, measured)]
    if latency.target_ms is not None:
        rows.append(["target", _format(latency.target_ms), "", "", ""])
    return [format_table(rows, headers=["ms per image", *_statistics(predicted)], style=style)]


def latency_remarks(latency: LatencySummary | None) -> list[str]:
    """Return the conditions of prediction and measurement, as sentences."""
    if latency is None:
        return []
    conditions, count, images = latency.conditions, len(latency.pairs), len(latency.predicted_ms)
    table = f"the latency table of {conditions.size_text} on {conditions.device}"
    if not count:
        return [f"No latency is predicted: {table} applies to networks with gates and images of one pass of that size."]
    assert latency.median_error is not None, "there are pairs"
    remarks = [
        f"Latency of {count} of {images} images. Predicted: sum of the parts that run, of {table}, "
        f"{conditions.precision}, CPU threads: {conditions.threads}. Measured: wall time of the model, one image at a "
        f"time. Median error of the predictions: {latency.median_error:.1%}."
    ]
    if latency.differences:
        remarks.append(
            "Predicted and measured latency are not comparable: unlike the measurement of the table, this evaluation "
            f"has {'; '.join(latency.differences)}."
        )
    return remarks


def latency_as_dict(latency: LatencySummary) -> dict[str, Any]:
    """Return the values for results.json."""
    conditions, pairs = latency.conditions, latency.pairs
    values: dict[str, Any] = {"images": len(pairs)}
    if pairs:
        values |= {name: _statistics(ms) for name, ms in _named(*zip(*pairs, strict=True))}
    return values | {
        "target": latency.target_ms,
        "median_error": latency.median_error,
        "table": {
            "device": conditions.device,
            "threads": conditions.threads,
            "precision": conditions.precision,
            "size": list(conditions.size),
        },
        "differences": list(latency.differences),
    }


def _named(predicted: Sequence[float], measured: Sequence[float]) -> list[tuple[str, Sequence[float]]]:
    return [("predicted", predicted), ("measured", measured)]


def _statistics(ms: Sequence[float]) -> dict[str, float]:
    return {"avg": sum(ms) / len(ms), "median": median(ms), "max": max(ms), "min": min(ms)}


def _format(ms: float) -> str:
    return f"{ms:.3f}"
