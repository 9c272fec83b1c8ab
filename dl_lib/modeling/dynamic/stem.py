"""Stem of the routed network: image to feature map at stride 4 (arXiv 2003.10401)."""

from __future__ import annotations

from torch import Tensor, nn

from dl_lib.layers import conv_norm_act, separable_conv

__all__ = ["STEM_CHANNELS", "DynamicStem"]

STEM_CHANNELS = 64  # between the stem's convolutions, whatever the base channels of the lattice


class DynamicStem(nn.Module):
    """Three 3×3 convolutions with strides 2, 1, 2, each with norm and ReLU; the first has no padding.

    Args:
        out_channels: Channels at stride 4.
        norm: Name of the norm.
        separable: Make the second and third convolution depthwise-separable (`SEPT_STEM`).
    """

    def __init__(self, out_channels: int, *, norm: str, separable: bool = True) -> None:
        super().__init__()
        convolution = separable_conv if separable else conv_norm_act
        self.conv1 = conv_norm_act(3, STEM_CHANNELS, 3, stride=2, padding=0, norm=norm)
        self.conv2 = convolution(STEM_CHANNELS, STEM_CHANNELS, 3, norm=norm)
        self.conv3 = convolution(STEM_CHANNELS, out_channels, 3, stride=2, norm=norm)

    def forward(self, image: Tensor) -> Tensor:
        """Return feature maps (B, out_channels, H / 4, W / 4) of images (B, 3, H, W) with sides divisible by 4."""
        return self.conv3(self.conv2(self.conv1(image)))
