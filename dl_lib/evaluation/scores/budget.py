"""Budget target at the size of the evaluated images.

The budget constrains the ratio (`LOSS_MU`) of the expected cost to that of the full lattice with all gates open. Both
costs grow with the image size; their ratio does not depend on it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from fvcore.common.config import CfgNode

from dl_lib.evaluation.scores.result import ImageRecord
from dl_lib.modeling.costs.costs import MADDS_PER_MFLOP
from dl_lib.modeling.costs.table import NetworkCosts

__all__ = ["BudgetTarget", "budget_target"]


@dataclass(frozen=True)
class BudgetTarget:
    """Target of the budget at the size of the evaluated images.

    Attributes:
        ratio: Target ratio of the expected cost to that of the full lattice (`MODEL.BUDGET.LOSS_MU`).
        lattice_madds: Multiply-adds per image of the full lattice, all gates open, summed over all passes; mean over
            images.
    """

    ratio: float
    lattice_madds: float

    @property
    def expected_madds(self) -> float:
        """Target multiply-adds per image."""
        return self.ratio * self.lattice_madds

    def ratio_to_target(self, expected_madds: float) -> float | None:
        """Return the ratio of an expected cost per image to the target; None if the target is 0."""
        return expected_madds / self.expected_madds if self.expected_madds else None


def budget_target(cfg: CfgNode, *, costs: NetworkCosts, images: Sequence[ImageRecord]) -> BudgetTarget | None:
    """Return the target on these images; None if the configuration has no budget.

    The lattice is measured at the size of each image, or of each pass over it, summed. If the configuration gives
    `FLOPS_ALL` and a training crop, `FLOPS_ALL` is the cost at the crop, and the costs at other sizes are scaled
    accordingly.
    """
    budget, crop = cfg.MODEL.BUDGET, cfg.INPUT.CROP_SIZE
    if not budget.CONSTRAIN:
        return None
    sizes = Counter(size for image in images for size in image.input_sizes)
    madds = math.fsum(count * costs.table(*size).expected_all_open for size, count in sizes.items()) / len(images)
    if budget.FLOPS_ALL > 0 and crop:
        madds *= budget.FLOPS_ALL * MADDS_PER_MFLOP / costs.table(*crop).expected_all_open
    return BudgetTarget(ratio=budget.LOSS_MU, lattice_madds=madds)
