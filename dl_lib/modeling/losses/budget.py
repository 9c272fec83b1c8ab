"""Budget constraint on the expected cost (arXiv 2003.10401, equation 11)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

__all__ = ["WARM_UP_RATIO", "BudgetConstraint"]

WARM_UP_RATIO = 0.02  # fraction of training in which the weight of the constraint rises


@dataclass(frozen=True)
class BudgetConstraint:
    """Loss `loss_weight * warm * (expected / dense_madds - target_ratio)**2`.

    Attributes:
        loss_weight: Weight of the loss (`LOSS_WEIGHT`).
        target_ratio: Target of the expected cost as a ratio of `dense_madds` (`LOSS_MU`).
        dense_madds: Expected cost with all gates open, multiply-adds per image (`FLOPS_ALL`, there in MFLOPs).
        start_rate: Fraction of training without the constraint (`UNUPDATE_RATE`).
        warm_up: Raise the weight linearly over `WARM_UP_RATIO` of training (`WARM_UP`).
    """

    loss_weight: float
    target_ratio: float
    dense_madds: float
    start_rate: float
    warm_up: bool

    def is_active(self, step_rate: float) -> bool:
        """Return whether the constraint applies at this training progress in [0, 1]."""
        return step_rate >= self.start_rate

    def __call__(self, expected_madds: Tensor, *, step_rate: float) -> Tensor:
        """Return the loss (0-d) for the expected cost of a batch, multiply-adds per image (0-d)."""
        warm = min(1.0, (step_rate - self.start_rate) / WARM_UP_RATIO) if self.warm_up else 1.0
        return self.loss_weight * warm * (expected_madds / self.dense_madds - self.target_ratio) ** 2
