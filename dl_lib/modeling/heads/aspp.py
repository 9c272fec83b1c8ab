"""ASPP head: atrous spatial pyramid pooling (DeepLabv3, arXiv 1706.05587, section 3.3)."""

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

TAP_DISTANCES_PX = (96, 192, 288)  # dilation in image pixels: the paper's rates 6, 12, 18 at stride 16


@SEM_SEG_HEADS_REGISTRY.register()
class ASPPHead(SemSegHead):
    """Head with five parallel branches on one feature map: 1×1, three dilated 3×3 convolutions, and global mean.

    The norm of the global-mean branch normalizes 1×1 feature maps, for which batch norm needs at least two images in
    training.

    Args:
        input_shape: Shape of the feature map, usually the coarsest.
        in_feature: Name of the feature map.
        num_classes: Number of classes.
        channels: Channels of each branch and of the convolution that fuses them (256 in the paper).
        norm: Name of the norm.
    """

    @configurable
    def __init__(self, input_shape: ShapeSpec, *, in_feature: str, num_classes: int, channels: int, norm: str) -> None:
        super().__init__(input_shape.stride)
        self._in_feature, in_channels = in_feature, input_shape.channels
        self.pointwise = conv_norm_act(in_channels, channels, norm=norm)
        self.dilated = nn.ModuleList(
            nn.Sequential(
                conv2d(in_channels, channels, 3, dilation=distance // input_shape.stride),
                make_norm(norm, channels),
                nn.ReLU(inplace=True),
            )
            for distance in TAP_DISTANCES_PX
        )
        self.mean = nn.Sequential(nn.AdaptiveAvgPool2d(1), conv_norm_act(in_channels, channels, norm=norm))
        self.reduce = conv_norm_act((2 + len(TAP_DISTANCES_PX)) * channels, channels, norm=norm)
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
        """Return logits (B, num_classes, H / s, W / s) at the stride s of the feature map."""
        x = features[self._in_feature]
        mean = self.mean(x).expand(-1, -1, *x.shape[2:])
        branches = [self.pointwise(x), *(dilated(x) for dilated in self.dilated), mean]
        return self.predictor(self.reduce(torch.cat(branches, dim=1)))
