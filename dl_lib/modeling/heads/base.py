"""Base class of segmentation heads, and the auxiliary head used in training only."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping

from torch import Tensor, nn
from torch.nn.functional import interpolate

from dl_lib.layers import conv2d, conv_norm_act

__all__ = ["AuxiliaryHead", "SemSegHead"]


class SemSegHead(nn.Module, ABC):
    """Segmentation head from feature maps to logits.

    Args:
        stride: Stride of the logits.
    """

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride = stride

    @abstractmethod
    def forward(self, features: Mapping[str, Tensor]) -> Tensor:
        """Return logits (B, num_classes, H / stride, W / stride) for feature maps by name."""

    def to_input_size(self, logits: Tensor) -> Tensor:
        """Resize logits bilinearly to the size of the images."""
        return interpolate(logits, scale_factor=self.stride, mode="bilinear", align_corners=False)


class AuxiliaryHead(nn.Sequential):
    """Auxiliary head on a single feature map: 3×3 convolution with norm and ReLU, then 1×1 convolution to the classes.

    Source: PSPNet, arXiv 1612.01105, section 3.3.

    Args:
        in_channels: Channels of the feature map.
        channels: Channels between the two convolutions.
        num_classes: Number of classes.
        norm: Name of the norm, see `make_norm`.
    """

    def __init__(self, in_channels: int, *, channels: int, num_classes: int, norm: str) -> None:
        super().__init__()
        self.reduce = conv_norm_act(in_channels, channels, 3, norm=norm)
        self.predictor = conv2d(channels, num_classes, bias=True)
