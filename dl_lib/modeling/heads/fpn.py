"""The head of semantic feature pyramids. Panoptic FPN, arXiv 1901.02446, section 3.1; the pyramid: arXiv 1612.03144."""

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
    """A pyramid from the coarsest feature to the finest, whose levels are brought to the finest stride and added up.

    A level is brought there by as many 3×3 convolutions, each before an enlargement by 2, as it is away; the finest
    goes through one all the same.

    Args:
        input_shapes: of each feature, by its name, finest first; strides are powers of 2.
        num_classes: classes to tell apart.
        channels: of the pyramid and of all convolutions after it (the paper: 256 and 128).
        norm: name of the norm (the paper: GN).
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
        """Logits (B, num_classes, H / s, W / s) at the stride s of the finest feature."""
        total: Tensor | None = None
        above: Tensor | None = None
        stride_above = 0
        for name, lateral in reversed(list(self.lateral.items())):
            x = lateral(features[name])
            if above is not None:
                x = x + interpolate(above, scale_factor=stride_above // self._strides[name], mode="nearest")
            above, stride_above = x, self._strides[name]
            level = self.levels[name](self.output[name](x))
            total = level if total is None else total + level
        assert total is not None
        return self.predictor(total)


def _level(channels: int, *, factor: int, norm: str) -> nn.Sequential:
    """3×3 convolutions with norm and ReLU that enlarge by this factor, a power of 2."""
    if factor == 1:
        return nn.Sequential(conv_norm_act(channels, channels, 3, norm=norm))
    steps: list[nn.Module] = []
    for _ in range(factor.bit_length() - 1):
        steps += [
            conv_norm_act(channels, channels, 3, norm=norm),
            nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False),
        ]
    return nn.Sequential(*steps)
