"""Heads that only help to train: they predict the classes from a single feature. arXiv 1612.01105, section 3.3."""

from __future__ import annotations

from torch import nn

from dl_lib.layers import conv2d, conv_norm_act

__all__ = ["AuxiliaryHead"]


class AuxiliaryHead(nn.Sequential):
    """A 3×3 convolution with norm and ReLU, and a 1×1 convolution to the classes: (B, C, h, w) to logits.

    Args:
        in_channels: of the feature.
        channels: between the two.
        num_classes: classes to tell apart.
        norm: name of the norm.
    """

    def __init__(self, in_channels: int, *, channels: int, num_classes: int, norm: str) -> None:
        super().__init__()
        self.reduce = conv_norm_act(in_channels, channels, 3, norm=norm)
        self.predictor = conv2d(channels, num_classes, bias=True)
