"""The budget constraint: arXiv 2003.10401, equation 11."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

__all__ = ["WARM_UP_RATIO", "BudgetConstraint"]

WARM_UP_RATIO = 0.02  # of the training, from the moment the constraint sets in


@dataclass(frozen=True)
class BudgetConstraint:
    """loss_weight * warm * (expected / dense_mflops - target_ratio)**2.

    Attributes:
        loss_weight: weight of the loss (`LOSS_WEIGHT`).
        target_ratio: expected cost aimed at, as a share of `dense_mflops` (`LOSS_MU`).
        dense_mflops: expected cost of the whole lattice, MFLOPs of one image (`FLOPS_ALL`).
        start_rate: share of the training without constraint (`UNUPDATE_RATE`).
        warm_up: let the weight grow linearly over `WARM_UP_RATIO` of the training (`WARM_UP`).
    """

    loss_weight: float
    target_ratio: float
    dense_mflops: float
    start_rate: float
    warm_up: bool

    def is_active(self, step_rate: float) -> bool:
        """Whether there is a constraint yet, at this progress of the training in [0, 1]."""
        return step_rate >= self.start_rate

    def __call__(self, expected_mflops: Tensor, *, step_rate: float) -> Tensor:
        """The loss (0-d) for the expected cost of a batch, MFLOPs per image (0-d)."""
        warm = min(1.0, (step_rate - self.start_rate) / WARM_UP_RATIO) if self.warm_up else 1.0
        return self.loss_weight * warm * (expected_mflops / self.dense_mflops - self.target_ratio) ** 2
