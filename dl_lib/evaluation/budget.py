"""What the budget of a training asks for, at the size of the images that are evaluated.

A budget limits a share (`LOSS_MU`) of the whole lattice's expected cost, all gates open. That cost grows with the
image, and so does the target that an evaluation compares with; the share is what carries over between sizes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from fvcore.common.config import CfgNode

from dl_lib.evaluation.costs import MFLOPS_PER_GFLOP
from dl_lib.evaluation.evaluator import ImageRecord
from dl_lib.modeling.dynamic.cost import MADDS_PER_MFLOP, CostTable

__all__ = ["BudgetTarget", "CostTables", "budget_target"]

MADDS_PER_GFLOP = MADDS_PER_MFLOP * MFLOPS_PER_GFLOP


class CostTables(Protocol):
    """What `modeling.dynamic.cost.NetworkCosts` offers."""

    def table(self, height: int, width: int) -> CostTable: ...


@dataclass(frozen=True)
class BudgetTarget:
    """What a budget asks for, at the size of the evaluated images.

    Attributes:
        share: the share of the whole lattice's cost that the expected cost should have (`MODEL.BUDGET.LOSS_MU`).
        lattice_gflops: GFLOPs per image of the whole lattice, all gates open; the mean over the images.
    """

    share: float
    lattice_gflops: float

    @property
    def expected_gflops(self) -> float:
        """GFLOPs per image that the budget asks for."""
        return self.share * self.lattice_gflops

    def overrun(self, expected_gflops: float) -> float | None:
        """Expected GFLOPs per image as a multiple of the target; None where the target is 0."""
        return expected_gflops / self.expected_gflops if self.expected_gflops else None


def budget_target(
    cfg: CfgNode, *, costs: CostTables, divisor: int, images: Sequence[ImageRecord]
) -> BudgetTarget | None:
    """The target on these images; None where the configuration imposes no budget.

    Where the configuration gives `FLOPS_ALL` and a training crop, that is the cost at the crop and grows with the
    area; else the lattice is measured at the size of each image.

    Args:
        cfg: the run's configuration.
        costs: of the network.
        divisor: images are padded to its multiples.
        images: the evaluated ones, at least one.
    """
    budget = cfg.MODEL.BUDGET
    if not budget.CONSTRAIN:
        return None
    sizes = [_padded(image.input_height, image.input_width, divisor=divisor) for image in images]
    if budget.FLOPS_ALL > 0 and cfg.INPUT.CROP_SIZE:
        crop_height, crop_width = _padded(*cfg.INPUT.CROP_SIZE, divisor=divisor)
        madds_per_pixel = budget.FLOPS_ALL * MADDS_PER_MFLOP / (crop_height * crop_width)
        lattice_madds = [height * width * madds_per_pixel for height, width in sizes]
    else:
        lattice_madds = [costs.table(height, width).expected_all_open for height, width in sizes]
    mean_madds = math.fsum(lattice_madds) / len(lattice_madds)
    return BudgetTarget(share=budget.LOSS_MU, lattice_gflops=mean_madds / MADDS_PER_GFLOP)


def _padded(height: int, width: int, *, divisor: int) -> tuple[int, int]:
    """The size that the network runs at: sides rounded up to multiples of the divisor."""
    return math.ceil(height / divisor) * divisor, math.ceil(width / divisor) * divisor
