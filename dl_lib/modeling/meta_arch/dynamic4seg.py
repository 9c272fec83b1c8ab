"""Semantic segmentation with a routed network: image in, logits and costs out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from dl_lib.config import CfgNode, ConfigError, configurable
from dl_lib.modeling.costs.counters import MaddsObserver
from dl_lib.modeling.costs.table import MADDS_PER_MFLOP, CostTable, NetworkCosts
from dl_lib.modeling.dynamic.network import DynamicNetwork
from dl_lib.modeling.dynamic.openness import gate_openness
from dl_lib.modeling.dynamic.routing import Routing
from dl_lib.modeling.losses.budget import BudgetConstraint
from dl_lib.modeling.meta_arch.base import NetworkOutput, SegmentationModel
from dl_lib.modeling.meta_arch.step_means import StepMeans
from dl_lib.modeling.registries import BACKBONE_REGISTRY, META_ARCH_REGISTRY, SEM_SEG_HEADS_REGISTRY
from dl_lib.utils import comm
from dl_lib.utils.modes import no_side_effects

__all__ = ["DynamicNet4Seg", "check_dense_cost"]


@META_ARCH_REGISTRY.register()
class DynamicNet4Seg(SegmentationModel):
    """The routed network with its head and losses.

    Args:
        backbone: the routed network.
        budget: the budget constraint, if there is one.
        costs: of these very parts, where some sizes are measured already.
        arguments: see `SegmentationModel`.
    """

    backbone: DynamicNetwork

    @configurable
    def __init__(
        self,
        backbone: DynamicNetwork,
        *,
        budget: BudgetConstraint | None = None,
        costs: NetworkCosts | None = None,
        **arguments: Any,
    ) -> None:
        super().__init__(backbone, size_divisor=backbone.size_divisor, **arguments)
        self.budget = budget
        self.costs = costs or NetworkCosts(backbone, self.sem_seg_head)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        backbone = BACKBONE_REGISTRY.get(cfg.MODEL.BACKBONE.NAME)(cfg)
        head = SEM_SEG_HEADS_REGISTRY.get(cfg.MODEL.SEM_SEG_HEAD.NAME)(cfg, backbone.output_shapes)
        costs = NetworkCosts(backbone, head)
        return {
            "backbone": backbone,
            "sem_seg_head": head,
            "budget": _budget(cfg, costs) if cfg.MODEL.BUDGET.CONSTRAIN else None,
            "costs": costs,
            **cls.common_arguments(cfg, backbone.output_shapes),
        }

    def run(self, batch: Tensor, *, step_rate: float) -> NetworkOutput:
        self.backbone.check_size(*batch.shape[-2:], num_images=len(batch))  # its error names the smallest that works
        table = self.costs.table(*batch.shape[-2:])
        if self.backbone.compiled and not self.backbone.runs_sparsely:  # a compiled graph cannot be observed
            features, routing = self.backbone(batch, step_rate=step_rate)
            logits, executed = self.sem_seg_head(features), [table.dense] * len(batch)
        else:
            with MaddsObserver(len(batch)) as observer:
                features, routing = self.backbone(batch, step_rate=step_rate, observer=observer)
                logits, executed = self.sem_seg_head(features), observer.madds
        return NetworkOutput(logits, features, _flops(table, routing, executed), routing.gates_BE)

    def further_losses(
        self, output: NetworkOutput, *, step_rate: float, step_means: StepMeans | None
    ) -> dict[str, Tensor]:
        """The budget's, once it has set in: of the mean expected cost over the processes and the parts of the step."""
        if self.budget is None or not self.budget.is_active(step_rate):
            return {}
        expected = output.mflops["expt_flops"].mean()
        known = None if step_means is None else step_means.expected_mflops
        whole = comm.average(expected.detach()) if known is None else known
        # The value of the whole with the gradient of this part: the parts' mean has that of the whole.
        return {"loss_budget": self.budget(whole + (expected - expected.detach()), step_rate=step_rate)}

    def further_logged(self, output: NetworkOutput) -> dict[str, Tensor]:
        """How open the gates of each scale are."""
        return {} if output.gates_BE is None else gate_openness(self.backbone.lattice, output.gates_BE)

    def step_means(self, parts: Sequence[Sequence[dict[str, Any]]], *, step_rate: float) -> StepMeans:
        """As of every model; with a budget also the expected cost, for which the parts run once more beforehand."""
        means = super().step_means(parts, step_rate=step_rate)
        if self.budget is None or not self.budget.is_active(step_rate):
            return means
        with no_side_effects(self):
            expected = [self._expected_mflops(part, step_rate=step_rate) for part in parts]
        return replace(means, expected_mflops=comm.average(torch.stack(expected).mean()))

    def _expected_mflops(self, batched_inputs: Sequence[dict[str, Any]], *, step_rate: float) -> Tensor:
        """Mean over the images; whatever else the run gives is let go of."""
        return self.run(self.batch_of(batched_inputs), step_rate=step_rate).mflops["expt_flops"].mean()


def _flops(table: CostTable, routing: Routing, executed: Sequence[int]) -> dict[str, Tensor]:
    madds_B = {
        "expt_flops": table.expected(routing),
        "real_flops": table.real_published(routing),
        "real_flops_complete": table.real_complete(routing),
        "executed_flops": torch.tensor(executed, dtype=torch.float64),
    }
    return {name: values / MADDS_PER_MFLOP for name, values in madds_B.items()}


def check_dense_cost(cfg: CfgNode) -> None:
    """Raise ConfigError if the cost of the whole lattice is neither given nor measurable at a training crop."""
    if not cfg.MODEL.BUDGET.FLOPS_ALL and not cfg.INPUT.CROP_SIZE:
        raise ConfigError(
            "MODEL.BUDGET.FLOPS_ALL=0 measures the lattice at the training crop and needs INPUT.CROP_SIZE; give the "
            f"cost in MFLOPs or a crop. Received: MODEL.BUDGET.FLOPS_ALL={cfg.MODEL.BUDGET.FLOPS_ALL}"
        )


def _budget(cfg: CfgNode, costs: NetworkCosts) -> BudgetConstraint:
    check_dense_cost(cfg)
    budget, crop = cfg.MODEL.BUDGET, cfg.INPUT.CROP_SIZE
    dense_mflops = budget.FLOPS_ALL or costs.table(*crop).expected_all_open / MADDS_PER_MFLOP
    return BudgetConstraint(
        loss_weight=budget.LOSS_WEIGHT,
        target_ratio=budget.LOSS_MU,
        dense_mflops=dense_mflops,
        start_rate=budget.UNUPDATE_RATE,
        warm_up=budget.WARM_UP,
    )
