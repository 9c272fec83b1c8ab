"""Results of one network at several thresholds of its gates, and their Pareto front."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from dl_lib.evaluation.scores.result import EvaluationResult

__all__ = ["SweepPoint", "ThresholdSweep", "pareto_optimal"]


@dataclass(frozen=True)
class SweepPoint:
    """Results of two evaluations at one gate threshold, which differ in their times only.

    Attributes:
        threshold: Gate threshold.
        result: Result of the first evaluation.
        seconds: Seconds per image of both, see `EvaluationResult.seconds_per_image`.
    """

    threshold: float
    result: EvaluationResult
    seconds: tuple[float, float]

    @property
    def latency(self) -> float:
        """Seconds per image of the faster evaluation: other load of the machine only adds time."""
        return min(self.seconds)


@dataclass(frozen=True)
class ThresholdSweep:
    """Results of one network at several gate thresholds.

    Attributes:
        points: Results by increasing threshold; at least one.
        default_threshold: Threshold in training and in all other evaluations.
    """

    points: tuple[SweepPoint, ...]
    default_threshold: float

    @property
    def latency_noise(self) -> float:
        """Median ratio, minus 1, of the slower to the faster of two equal evaluations."""
        return median(max(point.seconds) / point.latency for point in self.points) - 1


def pareto_optimal(costs: Sequence[float], *, scores: Sequence[float]) -> list[bool]:
    """Return which points no other point dominates, with at most its cost and at least its score, one of them better.

    Equal points do not dominate each other.
    """
    points = list(zip(costs, scores, strict=True))
    return [not any(c <= cost and s >= score and (c, s) != (cost, score) for c, s in points) for cost, score in points]
