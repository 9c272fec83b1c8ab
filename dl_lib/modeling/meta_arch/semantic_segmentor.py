"""A static network: a backbone and a head, the same for every image."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from dl_lib.config import CfgNode, configurable
from dl_lib.modeling.backbones.base import Backbone
from dl_lib.modeling.costs.counters import MaddsObserver
from dl_lib.modeling.costs.static import StaticCosts
from dl_lib.modeling.costs.table import MADDS_PER_MFLOP
from dl_lib.modeling.meta_arch.base import NetworkOutput, SegmentationModel
from dl_lib.modeling.registries import BACKBONE_REGISTRY, META_ARCH_REGISTRY, SEM_SEG_HEADS_REGISTRY

__all__ = ["SemanticSegmentor"]

COSTS = ("expt_flops", "real_flops", "real_flops_complete", "executed_flops")


@META_ARCH_REGISTRY.register()
class SemanticSegmentor(SegmentationModel):
    """A static backbone with its head and losses; trains, evaluates and reports costs as routed networks do.

    There is nothing to choose: all of its costs are the one that every image of this size has, counted as it runs or,
    where it is compiled, beforehand.

    Args:
        backbone: images to features.
        compiled: run backbone and head as one graph, compiled by torch.
        arguments: see `SegmentationModel`.
    """

    backbone: Backbone

    @configurable
    def __init__(self, backbone: Backbone, *, compiled: bool = False, **arguments: Any) -> None:
        super().__init__(backbone, size_divisor=backbone.size_divisor, **arguments)
        self.compiled = compiled
        self._run_parts = torch.compile(_run_parts) if compiled else _run_parts
        self.costs = StaticCosts(backbone, self.sem_seg_head)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        backbone: Backbone = BACKBONE_REGISTRY.get(cfg.MODEL.BACKBONE.NAME)(cfg)
        backbone.shorten([*cfg.MODEL.SEM_SEG_HEAD.IN_FEATURES, *cfg.MODEL.AUXILIARY_HEADS.IN_FEATURES])
        backbone.activation_checkpointing = cfg.MODEL.ACTIVATION_CHECKPOINTING
        head = SEM_SEG_HEADS_REGISTRY.get(cfg.MODEL.SEM_SEG_HEAD.NAME)(cfg, backbone.output_shapes)
        return {
            "backbone": backbone,
            "sem_seg_head": head,
            "compiled": cfg.MODEL.COMPILE,
            **cls.common_arguments(cfg, backbone.output_shapes),
        }

    def run(self, batch: Tensor, *, step_rate: float) -> NetworkOutput:
        if self.compiled:  # a compiled graph cannot be observed
            features, logits = self._run_parts(self.backbone, self.sem_seg_head, batch)
            madds = [self.costs.madds(*batch.shape[-2:])] * len(batch)
        else:
            with MaddsObserver(len(batch)) as observer:
                features, logits = self._run_parts(self.backbone, self.sem_seg_head, batch)
            madds = observer.madds
        mflops_B = torch.tensor(madds, dtype=torch.float64) / MADDS_PER_MFLOP
        return NetworkOutput(logits, features, dict.fromkeys(COSTS, mflops_B), gates_BE=None)


def _run_parts(backbone: nn.Module, head: nn.Module, batch: Tensor) -> tuple[Mapping[str, Tensor], Tensor]:
    """Features and logits."""
    features = backbone(batch)
    return features, head(features)
