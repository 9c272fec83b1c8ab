"""What images cost: the figures of each, and their average, maximum and minimum over a data set.

Unit of the single image, as the model gives it: MFLOPs, millions of multiply-adds. Unit of the statistics: GFLOPs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from statistics import median

__all__ = ["CostStatistics", "ImageCosts", "Spread", "median_seconds", "summarise_costs"]

MFLOPS_PER_GFLOP = 1e3
_FLOPS_KEYS = ("expt_flops", "real_flops", "real_flops_complete", "executed_flops")


@dataclass(frozen=True)
class ImageCosts:
    """Of one image: MFLOPs, and the seconds that the model took for it.

    Attributes:
        expected: cells and transitions, weighted by their gates (what the budget limits).
        real: what has to run, as the paper counts it.
        real_complete: what has to run, everything counted.
        executed: what did run, as observed.
        seconds: wall time of the model alone, without loading and scoring.
    """

    expected: float
    real: float
    real_complete: float
    executed: float
    seconds: float

    @classmethod
    def from_flops(cls, flops: Mapping[str, float], *, seconds: float) -> ImageCosts:
        """Reads the `flops` dict of one of the model's outputs.

        Raises:
            KeyError: if one of the four figures is missing.
        """
        missing = [key for key in _FLOPS_KEYS if key not in flops]
        if missing:
            raise KeyError(
                f"a model has to return {', '.join(_FLOPS_KEYS)} (MFLOPs) for every image; {', '.join(missing)} "
                f"missing. Received: flops={sorted(flops)}"
            )
        expected, real, real_complete, executed = (float(flops[key]) for key in _FLOPS_KEYS)
        return cls(expected, real, real_complete, executed, seconds)


@dataclass(frozen=True)
class Spread:
    """GFLOPs per image over a data set."""

    average: float
    maximum: float
    minimum: float


@dataclass(frozen=True)
class CostStatistics:
    """GFLOPs per image over a data set; see `ImageCosts` for what each of them holds."""

    expected: Spread
    real: Spread
    real_complete: Spread
    executed: Spread


def summarise_costs(images: Sequence[ImageCosts]) -> CostStatistics:
    """The statistics of all images; their order is of no consequence, to the last digit.

    Raises:
        ValueError: if there is no image.
    """
    if not images:
        raise ValueError("the costs of no image at all cannot be averaged. Received: images=[]")
    kinds = [field.name for field in fields(CostStatistics)]
    return CostStatistics(**{kind: _spread([getattr(image, kind) for image in images]) for kind in kinds})


def median_seconds(images: Sequence[ImageCosts]) -> float:
    """Seconds per image; the median, since the first images also pay for warming up."""
    return median(image.seconds for image in images)


def _spread(mflops: Sequence[float]) -> Spread:
    return Spread(
        average=math.fsum(mflops) / len(mflops) / MFLOPS_PER_GFLOP,
        maximum=max(mflops) / MFLOPS_PER_GFLOP,
        minimum=min(mflops) / MFLOPS_PER_GFLOP,
    )
