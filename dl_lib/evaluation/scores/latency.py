"""Predicted and measured latency of the evaluated images."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median

from dl_lib.modeling.costs.latency import LatencyConditions

__all__ = ["LatencySummary"]


@dataclass(frozen=True)
class LatencySummary:
    """Latency of the images in milliseconds, predicted by a table and measured in this evaluation.

    Attributes:
        conditions: Conditions in which the table was measured.
        predicted_ms: Predicted latency of each image; None for an image of another size or with several passes.
        measured_ms: Wall time of the model for each image.
        target_ms: Target of the budget, if it is in milliseconds.
        differences: Conditions of this evaluation that differ from those of the table, as text.
    """

    conditions: LatencyConditions
    predicted_ms: tuple[float | None, ...]
    measured_ms: tuple[float, ...]
    target_ms: float | None
    differences: tuple[str, ...]

    @property
    def pairs(self) -> tuple[tuple[float, float], ...]:
        """Predicted and measured latency of the images with a prediction."""
        both = zip(self.predicted_ms, self.measured_ms, strict=True)
        return tuple((predicted, measured) for predicted, measured in both if predicted is not None)

    @property
    def median_error(self) -> float | None:
        """Median of the absolute relative deviations of the predictions; None without predictions."""
        errors = [abs(predicted / measured - 1) for predicted, measured in self.pairs]
        return median(errors) if errors else None
