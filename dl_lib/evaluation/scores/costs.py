"""Cost statistics over the images of a dataset, in multiply-adds per image."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

from dl_lib.modeling.costs.costs import Costs

__all__ = ["CostStatistics", "summarize_costs"]


@dataclass(frozen=True)
class CostStatistics:
    """Average, maximum and minimum cost per image under each convention, in multiply-adds."""

    average: Costs[float]
    maximum: Costs[float]
    minimum: Costs[float]


def summarize_costs(images: Sequence[Costs[float]]) -> CostStatistics:
    """Compute the statistics of all images; the result is bitwise independent of their order.

    Raises:
        ValueError: If there is no image.
    """
    if not images:
        raise ValueError("costs of at least one image are required. Received: images=[]")

    def reduce(function: Callable[[Sequence[float]], float]) -> Costs[float]:
        return Costs(
            **{field.name: function([getattr(image, field.name) for image in images]) for field in fields(Costs)}
        )

    return CostStatistics(
        average=reduce(lambda madds: math.fsum(madds) / len(madds)), maximum=reduce(max), minimum=reduce(min)
    )
