"""Budget target at the size of the evaluated images, and the cost that it constrains.

Costs grow with the image size; their ratio to the cost of the full lattice with all gates open hardly depends on it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fvcore.common.config import CfgNode

from dl_lib.config.crop_size import resolved_crop
from dl_lib.evaluation.scores.result import ImageRecord
from dl_lib.modeling.costs.costs import MADDS_PER_GFLOP, MADDS_PER_MFLOP
from dl_lib.modeling.costs.table import CostTable, NetworkCosts

__all__ = ["BudgetSummary", "summarize_budget"]


@dataclass(frozen=True)
class BudgetSummary:
    """Target of the budget at the size of the evaluated images; costs are multiply-adds per image, summed over passes.

    Attributes:
        cost: Name of the constrained cost.
        madds: The constrained cost, mean over images.
        target_madds: Target of the constrained cost.
        full_madds: Cost of the same parts with all gates open, mean over images.
        full: Name of these parts.
    """

    cost: str
    madds: float
    target_madds: float
    full_madds: float
    full: str = "full lattice"

    @property
    def ratio_to_target(self) -> float | None:
        """Ratio of the constrained cost to its target; None if the target is 0."""
        return self.madds / self.target_madds if self.target_madds else None


def summarize_budget(cfg: CfgNode, *, costs: NetworkCosts, images: Sequence[ImageRecord]) -> BudgetSummary | None:
    """Return the target on these images; None if the configuration has no budget, or one in milliseconds.

    The full cost is measured at the size of each image, or of each pass over it, summed. A target or `FLOPS_ALL` that
    is given as a cost refers to the training crop and is scaled to other sizes like the full cost.
    """
    budget = cfg.MODEL.BUDGET
    if not budget.CONSTRAIN:
        return None
    if budget.CONTROL == "penalty":
        return _penalty_target(cfg, costs=costs, images=images)
    if budget.TARGET_UNIT == "ms":
        return None  # `LatencySummary` has the target
    if budget.TARGET_UNIT == "gflops":
        full_madds = _mean_over_images(images, costs, of=lambda table: table.dense)
        scale = full_madds / costs.table(*resolved_crop(cfg)).dense
        madds = math.fsum(image.costs.real_complete for image in images) / len(images)
        return BudgetSummary(
            "real complete", madds, budget.TARGET * MADDS_PER_GFLOP * scale, full_madds, "full network"
        )
    full_madds = _mean_over_images(images, costs, of=lambda table: table.expected_all_open)
    unrouted = _mean_over_images(images, costs, of=lambda table: table.unrouted)
    madds = math.fsum(image.costs.real for image in images) / len(images) - unrouted
    return BudgetSummary("real, cells and transitions", madds, budget.TARGET * full_madds, full_madds)


def _penalty_target(cfg: CfgNode, *, costs: NetworkCosts, images: Sequence[ImageRecord]) -> BudgetSummary:
    budget = cfg.MODEL.BUDGET
    full_madds = _mean_over_images(images, costs, of=lambda table: table.expected_all_open)
    if budget.FLOPS_ALL > 0 and cfg.INPUT.CROP_SIZE:
        full_madds *= budget.FLOPS_ALL * MADDS_PER_MFLOP / costs.table(*resolved_crop(cfg)).expected_all_open
    madds = math.fsum(image.costs.expected for image in images) / len(images)
    return BudgetSummary("expected", madds, budget.LOSS_MU * full_madds, full_madds)


def _mean_over_images(images: Sequence[ImageRecord], costs: NetworkCosts, *, of: Callable[[CostTable], float]) -> float:
    """Return the mean of a cost that depends on the size only, summed over the passes of each image."""
    return math.fsum(of(costs.table(*size)) for image in images for size in image.input_sizes) / len(images)
