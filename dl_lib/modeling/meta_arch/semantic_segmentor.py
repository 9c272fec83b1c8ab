"""SemanticSegmentor: semantic segmentation with a static backbone and head."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from dl_lib.config import CfgNode, configurable
from dl_lib.modeling.backbones.base import Backbone
from dl_lib.modeling.build import BACKBONE_REGISTRY, META_ARCH_REGISTRY, SEM_SEG_HEADS_REGISTRY
from dl_lib.modeling.costs.costs import Costs
from dl_lib.modeling.costs.counters import MaddsObserver
from dl_lib.modeling.costs.static import StaticCosts
from dl_lib.modeling.meta_arch.base import NetworkOutput, SegmentationModel

__all__ = ["SemanticSegmentor"]


def _run_network(backbone: nn.Module, head: nn.Module, batch: Tensor) -> tuple[Mapping[str, Tensor], Tensor]:
    features = backbone(batch)
    return features, head(features)


@META_ARCH_REGISTRY.register()
class SemanticSegmentor(SegmentationModel):
    """Static backbone with segmentation head and losses, trained and evaluated like a routed network.

    Its cost depends on the image size only and is reported under every convention: observed while the network runs,
    or measured on the meta device where the network is compiled.

    Args:
        backbone: Static backbone.
        arguments: See `SegmentationModel`.
    """

    backbone: Backbone
    network_function = staticmethod(_run_network)

    @configurable
    def __init__(self, backbone: Backbone, **arguments: Any) -> None:
        super().__init__(backbone, size_divisor=backbone.size_divisor, **arguments)
        self.costs = StaticCosts(backbone, self.sem_seg_head)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        backbone: Backbone = BACKBONE_REGISTRY.get(cfg.MODEL.BACKBONE.NAME)(cfg)
        backbone.truncate([*cfg.MODEL.SEM_SEG_HEAD.IN_FEATURES, *cfg.MODEL.AUXILIARY_HEADS.IN_FEATURES])
        backbone.activation_checkpointing = cfg.MODEL.ACTIVATION_CHECKPOINTING
        head = SEM_SEG_HEADS_REGISTRY.get(cfg.MODEL.SEM_SEG_HEAD.NAME)(cfg, backbone.output_shapes)
        return {
            "backbone": backbone,
            "sem_seg_head": head,
            **cls.common_arguments(cfg, backbone.output_shapes),
        }

    def run(self, batch: Tensor, *, step_rate: float) -> NetworkOutput:
        if self.compiled:  # a compiled graph cannot be observed
            features, logits = self._run_network(self.backbone, self.sem_seg_head, batch)
            madds = [self.costs.madds(*batch.shape[-2:])] * len(batch)
        else:
            with MaddsObserver(len(batch)) as observer:
                features, logits = self._run_network(self.backbone, self.sem_seg_head, batch)
            madds = observer.madds
        costs = Costs.uniform(torch.tensor(madds, dtype=torch.float64))
        return NetworkOutput(logits, features, costs, gates_BE=None)
