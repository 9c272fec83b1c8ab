"""Semantic FPN head (Panoptic FPN, arXiv 1901.02446, section 3.1; feature pyramid: arXiv 1612.03144)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from torch.nn.functional import interpolate

from dl_lib.config import CfgNode, configurable
from dl_lib.layers import ShapeSpec, conv2d, conv_norm_act
from dl_lib.modeling.build import SEM_SEG_HEADS_REGISTRY
from dl_lib.modeling.heads.base import SemSegHead

__all__ = ["SemanticFPNHead"]


@SEM_SEG_HEADS_REGISTRY.register()
class SemanticFPNHead(SemSegHead):
    """Feature pyramid whose levels are upsampled to the finest stride and summed.

    A level at 2**k times the finest stride passes k 3×3 convolutions, each followed by ×2 upsampling; the finest level
    passes one 3×3 convolution.

    Args:
        input_shapes: Shape of each feature by name, finest first; strides are powers of 2.
        num_classes: Number of classes.
        channels: Channels of the pyramid and of all later convolutions (256 and 128 in the paper).
        norm: Name of the norm (GN in the paper).
    """

    @configurable
    def __init__(self, input_shapes: Mapping[str, ShapeSpec], *, num_classes: int, channels: int, norm: str) -> None:
        finest = next(iter(input_shapes.values())).stride
        super().__init__(finest)
        self._strides = {name: shape.stride for name, shape in input_shapes.items()}
        self.lateral = nn.ModuleDict(
            {name: conv2d(shape.channels, channels, bias=True) for name, shape in input_shapes.items()}
        )
        self.output = nn.ModuleDict({name: conv2d(channels, channels, 3, bias=True) for name in input_shapes})
        self.levels = nn.ModuleDict(
            {name: _level(channels, factor=shape.stride // finest, norm=norm) for name, shape in input_shapes.items()}
        )
        self.predictor = conv2d(channels, num_classes, bias=True)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shapes: Mapping[str, ShapeSpec]) -> dict[str, Any]:
        head = cfg.MODEL.SEM_SEG_HEAD
        return {
            "input_shapes": {name: input_shapes[name] for name in head.IN_FEATURES},
            "num_classes": head.NUM_CLASSES,
            "channels": head.CHANNELS,
            "norm": head.NORM,
        }

    def forward(self, features: Mapping[str, Tensor]) -> Tensor:
        """Return logits (B, num_classes, H / s, W / s) at the stride s of the finest feature."""
        total: Tensor | None = None
        coarser: Tensor | None = None
        coarser_stride = 0
        for name, lateral in reversed(list(self.lateral.items())):
            x = lateral(features[name])
            if coarser is not None:
                x = x + interpolate(coarser, scale_factor=coarser_stride // self._strides[name], mode="nearest")
            coarser, coarser_stride = x, self._strides[name]
            level = self.levels[name](self.output[name](x))
            total = level if total is None else total + level
        assert total is not None
        return self.predictor(total)


def _level(channels: int, *, factor: int, norm: str) -> nn.Sequential:
    """Build 3×3 convolutions with norm and ReLU that upsample by this factor, a power of 2."""
    if factor == 1:
        return nn.Sequential(conv_norm_act(channels, channels, 3, norm=norm))
    steps: list[nn.Module] = []
    for _ in range(factor.bit_length() - 1):
        steps += [
            conv_norm_act(channels, channels, 3, norm=norm),
            nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False),
        ]
    return nn.Sequential(*steps)
