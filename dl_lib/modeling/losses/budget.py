"""Budget losses: penalty on the expected cost (arXiv 2003.10401, equation 11), and weighted cost with a target."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dl_lib.config.choices import BudgetUnit
from dl_lib.modeling.costs.costs import MADDS_PER_GFLOP, Costs
from dl_lib.modeling.costs.latency import LatencyTable
from dl_lib.modeling.costs.table import CostTable
from dl_lib.modeling.dynamic.routing import Routing
from dl_lib.utils import comm

__all__ = ["WARM_UP_RATIO", "BudgetConstraint", "CostSpread", "TargetBudget"]

WARM_UP_RATIO = 0.02  # fraction of training in which the weight of the constraint rises
SPREAD_WEIGHT = 0.3  # larger weights make routes differ at the expense of accuracy, smaller ones have no effect


@dataclass(frozen=True)
class BudgetConstraint:
    """Loss `loss_weight * warm * (expected / all_open_madds - target_ratio)**2`.

    Attributes:
        loss_weight: Weight of the loss (`LOSS_WEIGHT`).
        target_ratio: Target of the expected cost as a ratio of `all_open_madds` (`LOSS_MU`).
        all_open_madds: Expected cost with all gates open, multiply-adds per image (`FLOPS_ALL`, there in MFLOPs).
        start_rate: Fraction of training without the constraint (`UNUPDATE_RATE`).
        warm_up: Raise the weight linearly over `WARM_UP_RATIO` of training (`WARM_UP`).
    """

    loss_weight: float
    target_ratio: float
    all_open_madds: float
    start_rate: float
    warm_up: bool

    def is_active(self, step_rate: float) -> bool:
        """Return whether the constraint applies at this training progress in [0, 1]."""
        return step_rate >= self.start_rate

    def __call__(self, expected_madds: Tensor, *, step_rate: float) -> Tensor:
        """Return the loss (0-d) for the expected cost of a batch, multiply-adds per image (0-d)."""
        warm = min(1.0, (step_rate - self.start_rate) / WARM_UP_RATIO) if self.warm_up else 1.0
        return self.loss_weight * warm * (expected_madds / self.all_open_madds - self.target_ratio) ** 2


@dataclass
class TargetBudget:
    """Loss `weight * expected / expected_all_open`, whose weight steers the real cost to a target.

    Costs are multiply-adds, or latencies for a target in milliseconds. The weight has either sign: above 0 it lowers
    the cost, below 0 it raises it. It is 0 until `BudgetController`, a hook of the trainer, sets it.

    Attributes:
        target: Target of the mean real cost per image in `unit` (`TARGET`).
        unit: Unit of the target (`TARGET_UNIT`), see `cost`.
        lattice_cost: Expected cost with all gates open, in `unit`.
        reachable: Lowest and highest real cost in `unit`, with all gates closed and with all gates open.
        start_rate: Fraction of training without the loss (`UNUPDATE_RATE`).
        warm_up: Whether the target is approached linearly (`WARM_UP`), see `BudgetController`.
        latency: Latencies of the parts, for a target in milliseconds.
        weight: Current weight of the loss.
    """

    target: float
    unit: BudgetUnit
    lattice_cost: float
    reachable: tuple[float, float]
    start_rate: float
    warm_up: bool
    latency: LatencyTable | None = None
    weight: float = 0.0

    def is_active(self, step_rate: float) -> bool:
        """Return whether the loss applies at this training progress in [0, 1]."""
        return step_rate >= self.start_rate

    def __call__(self, costs: Costs[Tensor], *, table: CostTable, routing: Routing) -> Tensor:
        """Return the loss (0-d) for the costs (B,) and the routing of images of the table's size."""
        if self.latency is not None:
            return self.weight * self.latency.expected(routing).mean() / self.latency.expected_all_open
        return self.weight * costs.expected.mean() / table.expected_all_open

    def cost(self, costs: Costs[Tensor], *, table: CostTable, routing: Routing) -> Tensor:
        """Return the mean real cost (0-d) in `unit`.

        `ratio`: open cells and active transitions, relative to the lattice with all gates open; the same parts as
        the expected cost. `gflops`: all modules that must run, 1e9 multiply-adds per image. `ms`: predicted latency of
        an image.
        """
        if self.latency is not None:
            return self.latency.real_complete(routing).mean()
        if self.unit == "ratio":
            return (costs.real.mean() - table.unrouted) / table.expected_all_open
        return costs.real_complete.mean() / MADDS_PER_GFLOP


@dataclass(frozen=True)
class CostSpread:
    """Loss `SPREAD_WEIGHT * max(0, minimum - standard deviation of expected / expected_all_open over the images)`.

    A budget on the mean cost has no preference between equal and different routes; this loss prefers different ones.

    Attributes:
        minimum: Standard deviation above which the loss is 0 (`SPREAD`).
    """

    minimum: float

    def __call__(self, expected: Tensor, *, table: CostTable) -> Tensor:
        """Return the loss (0-d) for the expected costs (B,) of images of the table's size, of this process.

        Value over the images of all processes, gradient of this process: DDP averages the gradients.
        """
        ratio_B = expected / table.expected_all_open
        moments = comm.average(torch.stack([ratio_B.mean(), ratio_B.square().mean()]).detach())
        mean, variance = moments[0], (moments[1] - moments[0] ** 2).clamp_min(0)
        deviation = variance.sqrt()
        gradient = ((ratio_B.detach() - mean) * ratio_B).mean() / deviation.clamp_min(1e-6)
        gradient = (deviation < self.minimum) * (gradient - gradient.detach())
        return SPREAD_WEIGHT * (torch.relu(self.minimum - deviation) - gradient)
