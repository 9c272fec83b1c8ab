"""Cell operations with per-image kernels, switchable dilation or split channels.

Sources: CondConv, arXiv 1904.04971; dynamic convolution, arXiv 1912.03458; switchable atrous convolution, arXiv
2006.02334; SPConv, arXiv 2006.12085; ReXNet's block, arXiv 2007.00992. Initialization is that of the layers.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from functools import partial

from torch import Tensor, nn

from dl_lib.layers import (
    CondConv2d,
    DynamicConv2d,
    ExpertRouting,
    KernelAttention,
    SAConv2d,
    SPConv2d,
    conv2d,
    make_norm,
)
from dl_lib.layers.mixed_conv import MixedConv2d
from dl_lib.modeling.backbones.rex_block import RexBlock
from dl_lib.modeling.backbones.rexnet_plan import EXPANSION, SQUEEZE, BlockPlan

__all__ = ["cond_conv", "cond_sep_conv", "dyn_conv", "dyn_sep_conv", "rex_block", "sac", "sac_sep", "spconv"]

NUM_KERNELS = 4  # as in the smaller models of the CondConv and dynamic convolution papers
SEPARABLE_DEPTH = 2  # as in sep_conv_3x3

MakeConv = Callable[..., MixedConv2d]


def cond_conv(channels: int, *, norm: str) -> nn.Sequential:
    return _conv_norm(CondConv2d(channels, channels, 3, padding=1, bias=False, num_experts=NUM_KERNELS), norm=norm)


def dyn_conv(channels: int, *, norm: str) -> nn.Sequential:
    return _conv_norm(DynamicConv2d(channels, channels, 3, padding=1, bias=False, num_kernels=NUM_KERNELS), norm=norm)


def cond_sep_conv(channels: int, *, norm: str) -> SharedMixture:
    make_conv = partial(CondConv2d, bias=False, num_experts=NUM_KERNELS, own_routing=False)
    return SharedMixture(channels, weigh=ExpertRouting(channels, NUM_KERNELS), make_conv=make_conv, norm=norm)


def dyn_sep_conv(channels: int, *, norm: str) -> SharedMixture:
    make_conv = partial(DynamicConv2d, bias=False, num_kernels=NUM_KERNELS, own_attention=False)
    return SharedMixture(channels, weigh=KernelAttention(channels, NUM_KERNELS), make_conv=make_conv, norm=norm)


def sac(channels: int, *, norm: str) -> nn.Sequential:
    return _conv_norm(SAConv2d(channels, channels, 3, padding=1, bias=False), norm=norm)


def sac_sep(channels: int, *, norm: str) -> nn.Sequential:
    return nn.Sequential(
        OrderedDict(
            depthwise=SAConv2d(channels, channels, 3, padding=1, groups=channels, bias=False),
            pointwise=conv2d(channels, channels),
            norm=make_norm(norm, channels),
        )
    )


def spconv(channels: int, *, norm: str) -> SPConv2d:
    return SPConv2d(channels, channels, 3, padding=1, norm=norm)


def rex_block(channels: int, *, norm: str) -> RexBlock:
    """Build ReXNet's block with the paper's expansion and squeeze ratio, without the identity shortcut.

    The identity is a separate operation, `skip_connect`, as with the other operations.
    """
    expanded = EXPANSION * channels
    plan = BlockPlan(channels, expanded=expanded, out_channels=channels, squeezed=expanded // SQUEEZE)
    return RexBlock(plan, norm=norm, squeeze_norm=norm)


def _conv_norm(conv: MixedConv2d | SAConv2d, *, norm: str) -> nn.Sequential:
    return nn.Sequential(OrderedDict(conv=conv, norm=make_norm(norm, conv.geometry.out_channels)))


class SharedMixture(nn.Module):
    """Two depthwise-separable 3×3 convolutions, as in `sep_conv_3x3`, whose kernels share one set of mixing weights.

    Args:
        channels: Channels C.
        weigh: Module from the operation's input (B, C, H, W) to the mixing weights (B, K).
        make_conv: Constructor of a convolution that takes the mixing weights with each call; called with the arguments
            of `nn.Conv2d`.
        norm: Name of the norm after each pointwise convolution.
    """

    def __init__(self, channels: int, *, weigh: nn.Module, make_conv: MakeConv, norm: str) -> None:
        super().__init__()
        self.weigh = weigh
        self.act = nn.ReLU(inplace=True)  # between the blocks; the transitions start with a ReLU
        self.blocks = nn.ModuleList(
            nn.ModuleDict(
                {
                    "depthwise": make_conv(channels, channels, 3, padding=1, groups=channels),
                    "pointwise": make_conv(channels, channels, 1),
                    "norm": make_norm(norm, channels),
                }
            )
            for _ in range(SEPARABLE_DEPTH)
        )

    def forward(self, x: Tensor) -> Tensor:
        weights = self.weigh(x)
        for position, block in enumerate(self.blocks):
            assert isinstance(block, nn.ModuleDict)
            x = self.act(x) if position else x
            x = block["norm"](block["pointwise"](block["depthwise"](x, weights), weights))
        return x
