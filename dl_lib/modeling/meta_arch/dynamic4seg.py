"""DynamicNet4Seg: semantic segmentation with a routed network (arXiv 2003.10401)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from dl_lib.config import CfgNode, ConfigError, configurable
from dl_lib.config.crop_size import resolved_crop
from dl_lib.modeling.build import BACKBONE_REGISTRY, META_ARCH_REGISTRY, SEM_SEG_HEADS_REGISTRY
from dl_lib.modeling.costs.costs import MADDS_PER_MFLOP
from dl_lib.modeling.costs.counters import MaddsObserver
from dl_lib.modeling.costs.table import NetworkCosts
from dl_lib.modeling.dynamic.network import DynamicNetwork
from dl_lib.modeling.dynamic.routing import gate_openness
from dl_lib.modeling.losses.budget import BudgetConstraint
from dl_lib.modeling.meta_arch.base import NetworkOutput, SegmentationModel
from dl_lib.modeling.meta_arch.batching import StepMeans
from dl_lib.utils import comm
from dl_lib.utils.modes import no_side_effects

__all__ = ["DynamicNet4Seg", "check_dense_cost"]


@META_ARCH_REGISTRY.register()
class DynamicNet4Seg(SegmentationModel):
    """Routed network with segmentation head, losses and optional budget constraint.

    Args:
        backbone: Routed network.
        budget: Budget constraint; None trains without one.
        costs: Cost tables of `backbone` and head, if they are already measured.
        arguments: See `SegmentationModel`.
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
            "budget": _build_budget(cfg, costs) if cfg.MODEL.BUDGET.CONSTRAIN else None,
            "costs": costs,
            **cls.common_arguments(cfg, backbone.output_shapes),
        }

    def run(self, batch: Tensor, *, step_rate: float) -> NetworkOutput:
        # Before the cost table, whose error would not name the smallest valid size.
        self.backbone.check_size(*batch.shape[-2:], num_images=len(batch))
        table = self.costs.table(*batch.shape[-2:])
        if self.backbone.compiled and not self.backbone.runs_sparsely:  # a compiled graph cannot be observed
            features, routing = self.backbone(batch, step_rate=step_rate)
            logits, executed = self.sem_seg_head(features), [table.dense] * len(batch)
        else:
            with MaddsObserver(len(batch)) as observer:
                features, routing = self.backbone(batch, step_rate=step_rate, observer=observer)
                logits, executed = self.sem_seg_head(features), observer.madds
        return NetworkOutput(logits, features, table.costs(routing, executed=executed), routing.gates_BE)

    def extra_losses(
        self, output: NetworkOutput, *, step_rate: float, step_means: StepMeans | None
    ) -> dict[str, Tensor]:
        """Return the budget loss of the mean expected cost over all processes and accumulated batches."""
        if self.budget is None or not self.budget.is_active(step_rate):
            return {}
        expected = output.costs.expected.mean()
        known = None if step_means is None else step_means.expected_madds
        mean = comm.average(expected.detach()) if known is None else known
        # Value of the whole step, gradient of this batch: averaged over batches, the gradients are those of the step.
        return {"loss_budget": self.budget(mean + (expected - expected.detach()), step_rate=step_rate)}

    def extra_metrics(self, output: NetworkOutput) -> dict[str, Tensor]:
        """Return the mean gate value of each scale."""
        return {} if output.gates_BE is None else gate_openness(self.backbone.lattice, output.gates_BE)

    def step_means(self, batches: Sequence[Sequence[dict[str, Any]]], *, step_rate: float) -> StepMeans:
        """Return the means over all batches of a step; an active budget costs one more forward pass per batch."""
        means = super().step_means(batches, step_rate=step_rate)
        if self.budget is None or not self.budget.is_active(step_rate):
            return means
        with no_side_effects(self):
            expected = [self._mean_expected(batch, step_rate=step_rate) for batch in batches]
        return replace(means, expected_madds=comm.average(torch.stack(expected).mean()))

    def _mean_expected(self, batched_inputs: Sequence[dict[str, Any]], *, step_rate: float) -> Tensor:
        # A separate function, so that the other outputs of the pass are freed before the next one.
        return self.run(self.preprocess_images(batched_inputs), step_rate=step_rate).costs.expected.mean()


def check_dense_cost(cfg: CfgNode) -> None:
    """Raise ConfigError if the cost of the whole lattice is neither given nor measurable at a training crop."""
    if not cfg.MODEL.BUDGET.FLOPS_ALL and not cfg.INPUT.CROP_SIZE:
        raise ConfigError(
            "MODEL.BUDGET.FLOPS_ALL=0 requires INPUT.CROP_SIZE, the image size at which the cost is measured; set "
            f"one of them. Received: MODEL.BUDGET.FLOPS_ALL={cfg.MODEL.BUDGET.FLOPS_ALL}"
        )


def _build_budget(cfg: CfgNode, costs: NetworkCosts) -> BudgetConstraint:
    check_dense_cost(cfg)
    budget = cfg.MODEL.BUDGET
    return BudgetConstraint(
        loss_weight=budget.LOSS_WEIGHT,
        target_ratio=budget.LOSS_MU,
        dense_madds=budget.FLOPS_ALL * MADDS_PER_MFLOP or costs.table(*resolved_crop(cfg)).expected_all_open,
        start_rate=budget.UNUPDATE_RATE,
        warm_up=budget.WARM_UP,
    )
