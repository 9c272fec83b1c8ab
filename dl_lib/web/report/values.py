"""Numbers of results.json, which may lack any entry, and their text in the report."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from dl_lib.evaluation.report.csv_files import ImageRow
from dl_lib.evaluation.report.results_file import is_plausible

__all__ = ["MISSING", "compact", "duration", "entries", "image_text", "number", "percent", "signed_percent"]

MISSING = "-"
_MAX_SECONDS = 1e11  # 3,000 years


def number(values: Any, *keys: str, low: float = 0) -> float | None:
    """Return the number under nested keys; None if it is missing, below `low`, or no plausible number."""
    for key in keys:
        values = values.get(key) if isinstance(values, Mapping) else None
    return values if is_plausible(values, low=low) else None


def entries(values: Any, *keys: str) -> Mapping[str, Any]:
    """Return the mapping under nested keys; an empty one if it is missing, or no mapping."""
    for key in keys:
        values = values.get(key) if isinstance(values, Mapping) else None
    return values if isinstance(values, Mapping) else {}


def compact(value: float | None, *, unit: str = "") -> str:
    """Return four significant digits, with thousands separated."""
    if value is None:
        return MISSING
    text = f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return f"{text} {unit}".strip()


def percent(ratio: float | None) -> str:
    return MISSING if ratio is None else f"{100 * ratio:.2f}"


def signed_percent(ratio: float | None) -> str:
    return MISSING if ratio is None else f"{100 * ratio:+.2f}"


def duration(seconds: float | None) -> str:
    """Return hours, minutes and seconds."""
    if seconds is None or not 0 <= seconds <= _MAX_SECONDS:
        return MISSING
    return str(timedelta(seconds=round(seconds)))


def image_text(row: ImageRow) -> str:
    """Return score and real cost of an image."""
    cost = f"real cost {compact(row.real_gflops, unit='GFLOPs')}"
    return cost if row.mean_iou is None else f"mIoU {percent(row.mean_iou)} %, {cost}"
