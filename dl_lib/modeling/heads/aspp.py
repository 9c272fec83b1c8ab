"""Atrous spatial pyramid pooling. DeepLabv3, arXiv 1706.05587, section 3.3."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from dl_lib.config import CfgNode, configurable
from dl_lib.layers import ShapeSpec, conv2d, conv_norm_act, make_norm
from dl_lib.modeling.build import SEM_SEG_HEADS_REGISTRY
from dl_lib.modeling.heads.base import SemSegHead

__all__ = ["ASPPHead"]

REACHES_PX = (96, 192, 288)  # distances of neighbouring taps in pixels: the paper's rates 6, 12, 18 at stride 16


@SEM_SEG_HEADS_REGISTRY.register()
class ASPPHead(SemSegHead):
    """Looks at the coarsest feature through a 1×1 and three dilated 3×3 convolutions and at its mean, at its stride.

    The norm after the mean sees maps of one pixel. A batch norm needs two images there in training.

    Args:
        input_shape: of the feature.
        in_feature: its name.
        num_classes: classes to tell apart.
        channels: of each of the five and of the convolution over all of them (the paper: 256).
        norm: name of the norm.
    """

    @configurable
    def __init__(self, input_shape: ShapeSpec, *, in_feature: str, num_classes: int, channels: int, norm: str) -> None:
        super().__init__(input_shape.stride)
        self._in_feature, in_channels = in_feature, input_shape.channels
        self.pointwise = conv_norm_act(in_channels, channels, norm=norm)
        self.dilated = nn.ModuleList(
            nn.Sequential(
                conv2d(in_channels, channels, 3, dilation=reach // input_shape.stride),
                make_norm(norm, channels),
                nn.ReLU(inplace=True),
            )
            for reach in REACHES_PX
        )
        self.mean = nn.Sequential(nn.AdaptiveAvgPool2d(1), conv_norm_act(in_channels, channels, norm=norm))
        self.reduce = conv_norm_act((2 + len(REACHES_PX)) * channels, channels, norm=norm)
        self.predictor = conv2d(channels, num_classes, bias=True)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shapes: Mapping[str, ShapeSpec]) -> dict[str, Any]:
        head = cfg.MODEL.SEM_SEG_HEAD
        (in_feature,) = head.IN_FEATURES
        return {
            "input_shape": input_shapes[in_feature],
            "in_feature": in_feature,
            "num_classes": head.NUM_CLASSES,
            "channels": head.CHANNELS,
            "norm": head.NORM,
        }

    def forward(self, features: Mapping[str, Tensor]) -> Tensor:
        """Logits (B, num_classes, H / s, W / s) at the stride s of the feature."""
        x = features[self._in_feature]
        mean = self.mean(x).expand(-1, -1, *x.shape[2:])
        views = [self.pointwise(x), *(dilated(x) for dilated in self.dilated), mean]
        return self.predictor(self.reduce(torch.cat(views, dim=1)))
