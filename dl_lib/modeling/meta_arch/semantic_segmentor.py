"""A static network: a backbone and a head, the same for every image."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from dl_lib.config import CfgNode, configurable
from dl_lib.modeling.backbones.base import Backbone
from dl_lib.modeling.dynamic.cost import MADDS_PER_MFLOP
from dl_lib.modeling.dynamic.counters import MaddsObserver
from dl_lib.modeling.meta_arch.base import NetworkOutput, SegmentationModel
from dl_lib.modeling.registries import BACKBONE_REGISTRY, META_ARCH_REGISTRY, SEM_SEG_HEADS_REGISTRY

__all__ = ["SemanticSegmentor"]

COSTS = ("expt_flops", "real_flops", "real_flops_complete", "executed_flops")


@META_ARCH_REGISTRY.register()
class SemanticSegmentor(SegmentationModel):
    """A static backbone with its head and losses; trains, evaluates and reports costs as routed networks do.

    There is nothing to choose: all of its costs are the one that every image of this size has, counted as it runs.

    Args:
        backbone: images to features.
        arguments: see `SegmentationModel`.
    """

    backbone: Backbone

    @configurable
    def __init__(self, backbone: Backbone, **arguments: Any) -> None:
        super().__init__(backbone, size_divisor=backbone.size_divisor, **arguments)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        backbone: Backbone = BACKBONE_REGISTRY.get(cfg.MODEL.BACKBONE.NAME)(cfg)
        backbone.shorten([*cfg.MODEL.SEM_SEG_HEAD.IN_FEATURES, *cfg.MODEL.AUXILIARY_HEADS.IN_FEATURES])
        head = SEM_SEG_HEADS_REGISTRY.get(cfg.MODEL.SEM_SEG_HEAD.NAME)(cfg, backbone.output_shapes)
        return {
            "backbone": backbone,
            "sem_seg_head": head,
            **cls.common_arguments(cfg, backbone.output_shapes),
        }

    def run(self, batch: Tensor, *, step_rate: float) -> NetworkOutput:
        with MaddsObserver(len(batch)) as observer:
            features = self.backbone(batch)
            logits = self.sem_seg_head(features)
        mflops_B = torch.tensor(observer.madds, dtype=torch.float64) / MADDS_PER_MFLOP
        return NetworkOutput(logits, features, dict.fromkeys(COSTS, mflops_B), gates_BE=None)
