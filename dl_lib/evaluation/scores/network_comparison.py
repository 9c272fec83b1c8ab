"""Measurements of two versions of a routed network on the same images."""

from __future__ import annotations

from dataclasses import dataclass

from dl_lib.evaluation.scores.result import EvaluationResult
from dl_lib.modeling.dynamic.route import Route

__all__ = ["NetworkComparison", "NetworkMeasurement"]


@dataclass(frozen=True)
class NetworkMeasurement:
    """Result of a network on a dataset, and its size.

    Attributes:
        result: Scores, costs and times.
        route: Route of the network.
        parameters: Number of learnable parameters.
        peak_memory_bytes: Peak memory of the forward pass of one image, without weights.
    """

    result: EvaluationResult
    route: Route
    parameters: int
    peak_memory_bytes: int


@dataclass(frozen=True)
class NetworkComparison:
    """Measurements of two networks on the same images, and the differences of their outputs.

    Attributes:
        before: Measurement of the first network.
        after: Measurement of the second network.
        logits_difference: Largest absolute difference of an image's logits, relative to the largest absolute value of
            the first network's; the maximum over the images.
        label_difference: Ratio of the pixels in [0, 1] whose predicted class differs.
    """

    before: NetworkMeasurement
    after: NetworkMeasurement
    logits_difference: float
    label_difference: float
