"""ReXNet and ReXNet-lite backbones (arXiv 2007.00992); `rexnet_plan` defines their shapes."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import partial
from itertools import pairwise

from torch import Tensor, nn

from dl_lib.config import CfgNode
from dl_lib.layers import ShapeSpec
from dl_lib.modeling.backbones.base import FEATURES, Backbone, feature_stride
from dl_lib.modeling.backbones.conv_replacement import adapt_backbone
from dl_lib.modeling.backbones.rex_block import RexBlock, conv_norm
from dl_lib.modeling.backbones.rexnet_plan import STEM_STRIDE, ReXNetPlan, plan_rexnet
from dl_lib.modeling.build import BACKBONE_REGISTRY

__all__ = ["ReXNet"]


class ReXNet(Backbone):
    """ReXNet without its classifier and the 1280-channel convolution in front of it.

    The features are the linear outputs of the last block at each stride.

    Args:
        plan: Shapes of stem and blocks.
        output_stride: Output stride that the plan was built for.
        norm: Name of the norms.
        squeeze_norm: Name of the norms inside squeeze-and-excitation, which normalize 1×1 feature maps.
        drop_prob: Drop-path probability of the last block; it rises linearly from 0 at the first block.
    """

    def __init__(
        self,
        plan: ReXNetPlan,
        *,
        output_stride: int = 32,
        norm: str = "BN",
        squeeze_norm: str = "BN",
        drop_prob: float = 0.0,
    ) -> None:
        last = plan.last_blocks
        shapes = {
            name: ShapeSpec(plan.blocks[last[name]].out_channels, feature_stride(name, output_stride=output_stride))
            for name in FEATURES
        }
        super().__init__(shapes, stages=_stages(last))
        act = nn.ReLU6(inplace=True) if plan.lite else nn.SiLU(inplace=True)
        self.stem = conv_norm(3, plan.stem, 3, stride=STEM_STRIDE, norm=norm, act=act)
        self.blocks = nn.ModuleList(
            RexBlock(block, norm=norm, squeeze_norm=squeeze_norm, lite=plan.lite) for block in plan.blocks
        )
        self.drop_prob = drop_prob
        self._set_drop_probs()
        self._names = {position: name for name, position in last.items()}

    def _set_drop_probs(self) -> None:
        for number, block in enumerate(self.blocks):
            assert isinstance(block, RexBlock)
            block.drop_prob = self.drop_prob * number / max(1, len(self.blocks) - 1)

    def truncate(self, features: Collection[str]) -> None:
        super().truncate(features)
        self._set_drop_probs()

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        features: dict[str, Tensor] = {}
        x = self.run_block(self.stem, images)
        for position, block in enumerate(self.blocks):
            x = self.run_block(block, x)
            if position in self._names:
                features[self._names[position]] = x
        return features


def _stages(last_blocks: Mapping[str, int]) -> dict[str, list[str]]:
    ends = [-1, *last_blocks.values()]
    stages = {
        name: [f"blocks.{i}" for i in range(before + 1, end + 1)]
        for name, (before, end) in zip(last_blocks, pairwise(ends), strict=True)
    }
    first = next(iter(stages))
    return {**stages, first: ["stem", *stages[first]]}


def _build(cfg: CfgNode, *, lite: bool) -> ReXNet:
    backbone = cfg.MODEL.BACKBONE
    network = ReXNet(
        plan_rexnet(
            width=backbone.WIDTH_FACTOR, depth=backbone.DEPTH_FACTOR, lite=lite, output_stride=backbone.OUTPUT_STRIDE
        ),
        output_stride=backbone.OUTPUT_STRIDE,
        norm=backbone.NORM,
        squeeze_norm=backbone.SQUEEZE_NORM or backbone.NORM,
        drop_prob=backbone.DROP_PROB,
    )
    adapt_backbone(network, cfg)
    return network


for _name, _lite in (("rexnet", False), ("rexnet_lite", True)):
    BACKBONE_REGISTRY._do_register(_name, partial(_build, lite=_lite))
