"""What the budget of a training asks for, at the size of the images that are evaluated.

A budget limits a share (`LOSS_MU`) of the whole lattice's expected cost, all gates open. That cost grows with the
image, and so does the target that an evaluation compares with; the share is what carries over between sizes.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from fvcore.common.config import CfgNode

from dl_lib.evaluation.scores.result import ImageRecord
from dl_lib.modeling.costs.costs import MADDS_PER_GFLOP, MADDS_PER_MFLOP
from dl_lib.modeling.costs.table import NetworkCosts

__all__ = ["BudgetTarget", "budget_target"]


@dataclass(frozen=True)
class BudgetTarget:
    """What a budget asks for, at the size of the evaluated images.

    Attributes:
        share: the share of the whole lattice's cost that the expected cost should have (`MODEL.BUDGET.LOSS_MU`).
        lattice_gflops: GFLOPs per image of the whole lattice, all gates open, in all passes; the mean over the images.
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


def budget_target(cfg: CfgNode, *, costs: NetworkCosts, images: Sequence[ImageRecord]) -> BudgetTarget | None:
    """The target on these images; None where the configuration imposes no budget.

    The lattice is measured at the size of each image; where an image is run in several passes, at that of each of
    them, and their costs are added up. Where the configuration gives `FLOPS_ALL` and a training crop, that is taken
    for the cost at the crop, and the other sizes' costs are scaled with it.

    Args:
        cfg: the run's configuration.
        costs: of the network.
        images: the evaluated ones, at least one.
    """
    budget, crop = cfg.MODEL.BUDGET, cfg.INPUT.CROP_SIZE
    if not budget.CONSTRAIN:
        return None
    sizes = Counter(size for image in images for size in image.input_sizes)
    madds = math.fsum(count * costs.table(*size).expected_all_open for size, count in sizes.items()) / len(images)
    if budget.FLOPS_ALL > 0 and crop:
        madds *= budget.FLOPS_ALL * MADDS_PER_MFLOP / costs.table(*crop).expected_all_open
    return BudgetTarget(share=budget.LOSS_MU, lattice_gflops=madds / MADDS_PER_GFLOP)
