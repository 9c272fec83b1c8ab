"""DynamicNet4Seg: semantic segmentation with a routed network (arXiv 2003.10401)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from dl_lib.config import CfgNode, ConfigError, configurable
from dl_lib.config.crop_size import resolved_crop
from dl_lib.modeling.build import BACKBONE_REGISTRY, META_ARCH_REGISTRY, SEM_SEG_HEADS_REGISTRY
from dl_lib.modeling.costs.costs import MADDS_PER_GFLOP, MADDS_PER_MFLOP
from dl_lib.modeling.costs.counters import CallPart, PartObserver, call_part
from dl_lib.modeling.costs.latency_file import training_latency
from dl_lib.modeling.costs.table import CostTable, NetworkCosts
from dl_lib.modeling.dynamic.configured_route import configured_route
from dl_lib.modeling.dynamic.network import DynamicNetwork
from dl_lib.modeling.dynamic.routing import Routing, Unreached, gate_openness
from dl_lib.modeling.losses.budget import BudgetConstraint, CostSpread, TargetBudget
from dl_lib.modeling.meta_arch.base import NetworkOutput, SegmentationModel
from dl_lib.modeling.meta_arch.batching import StepMeans
from dl_lib.utils import comm

__all__ = ["DynamicNet4Seg", "check_dense_cost"]


@dataclass(frozen=True, eq=False)
class RoutedOutput(NetworkOutput):
    """Output of a routed network.

    Attributes:
        cost_table: Costs of the parts at the size of the batch.
        routing: Routing of the images.
    """

    cost_table: CostTable
    routing: Routing


def _run_network(
    backbone: DynamicNetwork, head: nn.Module, batch: Tensor, step_rate: Tensor
) -> tuple[dict[str, Tensor], Routing, Tensor]:
    features, routing = backbone(batch, step_rate=step_rate)
    return features, routing, head(features)


@META_ARCH_REGISTRY.register()
class DynamicNet4Seg(SegmentationModel):
    """Routed network with segmentation head, losses and optional budget constraint.

    Args:
        backbone: Routed network.
        budget: Budget loss; None trains without one.
        spread: Loss for costs that differ between images; None trains without one. Has the schedule of the budget.
        costs: Cost tables of `backbone` and head, if they are already measured.
        arguments: See `SegmentationModel`.

    Attributes:
        call_part: Function that calls the parts of the network with their inputs, except in compiled execution.
    """

    backbone: DynamicNetwork
    call_part: CallPart = staticmethod(call_part)
    network_function = staticmethod(_run_network)

    @configurable
    def __init__(
        self,
        backbone: DynamicNetwork,
        *,
        budget: BudgetConstraint | TargetBudget | None = None,
        spread: CostSpread | None = None,
        costs: NetworkCosts | None = None,
        **arguments: Any,
    ) -> None:
        super().__init__(backbone, size_divisor=backbone.size_divisor, **arguments)
        self.budget = budget
        self.spread = spread
        self.costs = costs or NetworkCosts(backbone, self.sem_seg_head)
        self._measured: dict[Any, int] = {}

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        backbone = BACKBONE_REGISTRY.get(cfg.MODEL.BACKBONE.NAME)(cfg)
        head = SEM_SEG_HEADS_REGISTRY.get(cfg.MODEL.SEM_SEG_HEAD.NAME)(cfg, backbone.output_shapes)
        costs, budget = NetworkCosts(backbone, head), None
        if cfg.MODEL.BUDGET.CONSTRAIN:
            budget = _build_budget(cfg, costs, size_divisor=backbone.size_divisor)
        return {
            "backbone": backbone,
            "sem_seg_head": head,
            "budget": budget,
            "spread": CostSpread(cfg.MODEL.BUDGET.SPREAD) if cfg.MODEL.BUDGET.SPREAD else None,
            "costs": costs,
            **cls.common_arguments(cfg, backbone.output_shapes),
        }

    def run(self, batch: Tensor, *, step_rate: float) -> RoutedOutput:
        # Before the cost table, whose error would not name the smallest valid size.
        self.backbone.check_size(*batch.shape[-2:], num_images=len(batch))
        table = self.costs.table(*batch.shape[-2:])
        if self.compiled and not self.backbone.runs_sparsely:  # a compiled graph cannot be observed
            rate = torch.full((), step_rate, dtype=torch.float64, device=batch.device)
            features, routing, logits = self._run_network(self.backbone, self.sem_seg_head, batch, rate)
            executed = [table.dense] * len(batch)
        else:
            observer = PartObserver(len(batch), measured=self._measured, call=self.call_part)
            images = range(len(batch))
            if self.backbone.runs_sparsely:
                features, routing = self.backbone(batch, observer=observer)
            else:
                run_backbone = partial(self.backbone, step_rate=step_rate)
                features, routing = observer.run(run_backbone, batch, images, name="dense execution")
            logits, executed = observer.run(self.sem_seg_head, features, images), observer.madds
        costs = table.costs(routing, executed=executed)
        gates_BE = routing.gates_BE if self.backbone.has_gates else None
        return RoutedOutput(logits, features, costs, gates_BE, table, routing)

    def extra_losses(
        self, output: NetworkOutput, *, step_rate: float, step_means: StepMeans | None
    ) -> dict[str, Tensor]:
        """Return the budget loss of the images of all processes and of the accumulated batches so far."""
        if self.budget is None or not self.budget.is_active(step_rate):
            return {}
        assert isinstance(output, RoutedOutput)
        losses = {}
        if self.spread is not None:
            losses["loss_spread"] = self.spread(output.costs.expected, table=output.cost_table)
        if isinstance(self.budget, TargetBudget):
            loss = self.budget(output.costs, table=output.cost_table, routing=output.routing)
            return losses | {"loss_budget": loss}
        expected = output.costs.expected.mean()
        mean = comm.average(expected.detach())
        if step_means is not None:
            mean = step_means.cost_so_far(mean)
        # Value of all images so far, gradient of this batch: DDP and accumulation average the gradients.
        return losses | {"loss_budget": self.budget(mean + (expected - expected.detach()), step_rate=step_rate)}

    def extra_metrics(self, output: NetworkOutput) -> dict[str, Tensor]:
        """Return the mean gate value of each scale, and the real cost in the unit of a budget with a target."""
        metrics = {} if output.gates_BE is None else gate_openness(self.backbone.lattice, output.gates_BE)
        if isinstance(self.budget, TargetBudget):
            assert isinstance(output, RoutedOutput)
            metrics["budget_cost"] = self.budget.cost(output.costs, table=output.cost_table, routing=output.routing)
        return metrics


def check_dense_cost(cfg: CfgNode) -> None:
    """Raise ConfigError if the budget refers to the cost of a training image and there is no training crop."""
    budget = cfg.MODEL.BUDGET
    is_penalty = budget.CONTROL == "penalty"
    key, other = ("FLOPS_ALL", "the cost in MFLOPs") if is_penalty else ("TARGET_UNIT", "ratio")
    if budget[key] in (0, "gflops", "ms") and not cfg.INPUT.CROP_SIZE:
        value = budget[key] or 0
        raise ConfigError(
            f"MODEL.BUDGET.{key}={value} requires INPUT.CROP_SIZE, the image size at which the cost is measured; set "
            f"it, or MODEL.BUDGET.{key} to {other}. Received: MODEL.BUDGET.{key}={budget[key]}"
        )


def _build_budget(cfg: CfgNode, costs: NetworkCosts, *, size_divisor: int) -> BudgetConstraint | TargetBudget:
    budget = cfg.MODEL.BUDGET
    check_dense_cost(cfg)
    if budget.CONTROL == "target":
        return _build_target_budget(cfg, costs, size_divisor=size_divisor)
    return BudgetConstraint(
        loss_weight=budget.LOSS_WEIGHT,
        target_ratio=budget.LOSS_MU,
        all_open_madds=budget.FLOPS_ALL * MADDS_PER_MFLOP or costs.table(*resolved_crop(cfg)).expected_all_open,
        start_rate=budget.UNUPDATE_RATE,
        warm_up=budget.WARM_UP,
    )


def _build_target_budget(cfg: CfgNode, costs: NetworkCosts, *, size_divisor: int) -> TargetBudget:
    budget, route, latency = cfg.MODEL.BUDGET, configured_route(cfg), None
    runs_unreached = Unreached(cfg.MODEL.GATE.UNREACHED).runs(training=True)
    lattice_cost, reachable = 1.0, (0.0, 1.0)
    if budget.TARGET_UNIT == "ms":
        latency = training_latency(cfg, size_divisor=size_divisor)
        lattice_cost = latency.expected_all_open
        reachable = (latency.all_closed(route, runs_unreached=runs_unreached), latency.dense)
    elif budget.TARGET_UNIT == "gflops":
        table = costs.table(*resolved_crop(cfg))
        lattice_cost = table.expected_all_open / MADDS_PER_GFLOP
        lowest = table.all_closed(route, runs_unreached=runs_unreached)
        reachable = (lowest / MADDS_PER_GFLOP, table.dense / MADDS_PER_GFLOP)
    if not reachable[0] <= budget.TARGET <= reachable[1]:
        raise ConfigError(
            f"MODEL.BUDGET.TARGET must be from {reachable[0]:.6g} to {reachable[1]:.6g}, the costs of this network "
            "with all learned gates closed and with all of them open, with "
            f"MODEL.BUDGET.TARGET_UNIT={budget.TARGET_UNIT}. Received: MODEL.BUDGET.TARGET={budget.TARGET}"
        )
    return TargetBudget(
        target=budget.TARGET,
        unit=budget.TARGET_UNIT,
        lattice_cost=lattice_cost,
        reachable=reachable,
        latency=latency,
        start_rate=budget.UNUPDATE_RATE,
        warm_up=budget.WARM_UP,
    )
