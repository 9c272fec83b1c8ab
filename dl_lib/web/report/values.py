"""Numbers of results.json, which may lack any entry, and their text in the report."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

__all__ = ["MISSING", "compact", "duration", "entries", "number", "percent", "signed_percent"]

MISSING = "-"


def number(values: Any, *keys: str) -> float | None:
    """Return the number under nested keys; None if it is missing, or no number."""
    for key in keys:
        values = values.get(key) if isinstance(values, Mapping) else None
    return values if type(values) in (int, float) else None


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
    return MISSING if seconds is None else str(timedelta(seconds=round(seconds)))
