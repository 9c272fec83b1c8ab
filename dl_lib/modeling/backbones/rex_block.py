"""ReXNet block: inverted bottleneck with a partial residual connection (arXiv 2007.00992, section 4).

Activations are placed as in the public implementation (github.com/clovaai/rexnet): none after the depthwise norm, ReLU6
after squeeze-and-excitation.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn

from dl_lib.layers import drop_path, make_norm
from dl_lib.layers.depthwise import DilatedConv2d
from dl_lib.modeling.backbones.rexnet_plan import BlockPlan

__all__ = ["RexBlock", "SqueezeExcitation", "conv_norm"]


def conv_norm(
    in_channels: int,
    out_channels: int,
    kernel_size: int = 1,
    *,
    norm: str,
    stride: int = 1,
    dilation: int = 1,
    groups: int = 1,
    act: nn.Module | None = None,
) -> nn.Sequential:
    """Build a convolution that preserves the size at stride 1, followed by norm and optional activation.

    Kernels are initialized from the normal distribution with variance 2 / fan-out per group, as in timm's ReXNet.
    """
    make = nn.Conv2d if dilation == 1 else DilatedConv2d
    conv = make(
        in_channels,
        out_channels,
        kernel_size,
        stride=stride,
        padding=dilation * (kernel_size // 2),
        dilation=dilation,
        groups=groups,
        bias=False,
    )
    nn.init.normal_(conv.weight, std=(2 * groups / (kernel_size**2 * out_channels)) ** 0.5)
    parts: OrderedDict[str, nn.Module] = OrderedDict(conv=conv, norm=make_norm(norm, out_channels))
    if act is not None:
        parts["act"] = act
    return nn.Sequential(parts)


class SqueezeExcitation(nn.Module):
    """Squeeze-and-excitation with a norm: x * sigmoid(expand(relu(norm(reduce(mean(x)))))).

    The norm normalizes 1×1 feature maps, for which batch norm needs at least two images in training.

    Args:
        channels: Channels of the feature maps.
        squeezed: Channels between `reduce` and `expand`.
        norm: Name of the norm.
    """

    def __init__(self, channels: int, *, squeezed: int, norm: str) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.reduce = nn.Conv2d(channels, squeezed, 1)
        self.norm = make_norm(norm, squeezed)
        self.act = nn.ReLU(inplace=True)
        self.expand = nn.Conv2d(squeezed, channels, 1)
        self.gate = nn.Sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        squeezed = self.reduce(self.pool(x))
        return x * self.gate(self.expand(self.act(self.norm(squeezed))))


class RexBlock(nn.Module):
    """ReXNet block from (B, C, H, W) to (B, O, H / stride, W / stride), rounded up.

    The input is added to the first C channels of the output.

    Args:
        plan: Channels, stride and dilation of the block.
        norm: Name of the norms.
        squeeze_norm: Name of the norm inside squeeze-and-excitation.
        lite: Use ReLU6 instead of SiLU.

    Attributes:
        drop_prob: Drop-path probability in training, for blocks that add their input; initially 0.
    """

    def __init__(self, plan: BlockPlan, *, norm: str, squeeze_norm: str, lite: bool = False) -> None:
        super().__init__()
        self.plan, self.drop_prob = plan, 0.0
        expanded = plan.expanded
        if expanded != plan.in_channels:
            act = nn.ReLU6(inplace=True) if lite else nn.SiLU(inplace=True)
            self.expand: nn.Module = conv_norm(plan.in_channels, expanded, norm=norm, act=act)
        else:
            self.expand = nn.Identity()
        self.depthwise = conv_norm(
            expanded, expanded, 3, stride=plan.stride, dilation=plan.dilation, groups=expanded, norm=norm
        )
        self.squeeze: nn.Module = (
            SqueezeExcitation(expanded, squeezed=plan.squeezed, norm=squeeze_norm) if plan.squeezed else nn.Identity()
        )
        self.act = nn.ReLU6(inplace=True)
        self.project = conv_norm(expanded, plan.out_channels, norm=norm)

    def forward(self, x: Tensor) -> Tensor:
        y = self.project(self.act(self.squeeze(self.depthwise(self.expand(x)))))
        if not self.plan.adds_input:
            return y
        if self.training and self.drop_prob > 0:
            y = drop_path(y, self.drop_prob)
        shared = self.plan.in_channels
        return torch.cat([y[:, :shared] + x, y[:, shared:]], dim=1)
