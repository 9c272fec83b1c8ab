"""Registry of cell operations, and the sum of operations that a cell computes.

Source: candidate operations of the published DynamicRouting code (names, kernel sizes, positions of norms and ReLUs);
MBConv follows MobileNetV2 (arXiv 1801.04381); `sep_conv_light_3x3` is the paper's single separable convolution; further
operations are in `conditional_ops`. All preserve the shape (B, C, H, W). None ends in a ReLU, because the transitions
start with one.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from fvcore.common.registry import Registry
from torch import Tensor, nn

from dl_lib.layers import conv2d, conv_norm_act, drop_path, make_norm, separable_conv
from dl_lib.modeling.dynamic import conditional_ops

__all__ = ["CELL_OPERATIONS", "CellOperation", "Zero"]

CELL_OPERATIONS = Registry("CELL_OPERATIONS")
CELL_OPERATIONS.__doc__ = """Cell operations, the choices of `MODEL.BACKBONE.CELL_TYPE`.

An operation is built as `make(channels, norm=norm)`; the module preserves the shape (B, C, H, W).
"""


class Zero(nn.Module):
    """Operation `none`, whose output is zero."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.zeros_like(x)


def _sep_conv(channels: int, *, norm: str, kernel_size: int, depth: int) -> nn.Sequential:
    blocks = [separable_conv(channels, channels, kernel_size, norm=norm) for _ in range(depth - 1)]
    return nn.Sequential(*blocks, separable_conv(channels, channels, kernel_size, norm=norm, act=False))


def _dil_conv(channels: int, *, norm: str, kernel_size: int) -> nn.Sequential:
    return separable_conv(channels, channels, kernel_size, norm=norm, dilation=2, act=False)


def _bottleneck(channels: int, *, norm: str, kernel_size: int) -> nn.Sequential:
    inner = channels // 4
    return nn.Sequential(
        conv_norm_act(channels, inner, norm=norm),
        conv_norm_act(inner, inner, kernel_size, norm=norm),
        conv_norm_act(inner, channels, norm=norm, act=False),
    )


MBCONV_EXPANSION = 6  # MobileNetV2, table 2


def _mb_conv(channels: int, *, norm: str, kernel_size: int) -> nn.Sequential:
    inner = MBCONV_EXPANSION * channels
    return nn.Sequential(
        conv_norm_act(channels, inner, norm=norm),
        nn.Sequential(conv2d(inner, inner, kernel_size, groups=inner), make_norm(norm, inner), nn.ReLU(inplace=True)),
        conv_norm_act(inner, channels, norm=norm, act=False),
    )


def _register() -> None:
    def add(name: str, make: object) -> None:
        CELL_OPERATIONS._do_register(name, make)

    add("none", lambda channels, *, norm: Zero())
    add("skip_connect", lambda channels, *, norm: nn.Identity())
    add("avg_pool_3x3", lambda channels, *, norm: nn.AvgPool2d(3, stride=1, padding=1, count_include_pad=False))
    add("max_pool_3x3", lambda channels, *, norm: nn.MaxPool2d(3, stride=1, padding=1))
    add("conv_3x3_basic", lambda channels, *, norm: conv_norm_act(channels, channels, 3, norm=norm, act=False))
    add("sep_conv_light_3x3", partial(_sep_conv, kernel_size=3, depth=1))
    for k in (3, 5, 7):
        add(f"sep_conv_{k}x{k}", partial(_sep_conv, kernel_size=k, depth=2))
    for k in (3, 5):
        add(f"sep_conv_heavy_{k}x{k}", partial(_sep_conv, kernel_size=k, depth=3))
        add(f"dil_conv_{k}x{k}", partial(_dil_conv, kernel_size=k))
        add(f"Bottleneck_{k}x{k}", partial(_bottleneck, kernel_size=k))
        add(f"MBConv_{k}x{k}", partial(_mb_conv, kernel_size=k))
    for name in conditional_ops.__all__:
        add(f"{name}_3x3", getattr(conditional_ops, name))


_register()


class CellOperation(nn.ModuleDict):
    """Sum of a cell's operations; a repeated operation is stored as `name`, `name_2` and so on.

    Args:
        channels: Channels of the cell.
        cell_types: Names in `CELL_OPERATIONS`.
        norm: Name of the norm inside the operations.
    """

    def __init__(self, channels: int, *, cell_types: Sequence[str], norm: str) -> None:
        super().__init__()
        for position, name in enumerate(cell_types, 1):
            count = cell_types[:position].count(name)
            self[name if count == 1 else f"{name}_{count}"] = CELL_OPERATIONS.get(name)(channels, norm=norm)

    def forward(self, x: Tensor, *, drop_prob: Tensor | None = None) -> Tensor:
        """Return the sum of the operations' outputs.

        Args:
            x: Feature maps (B, C, H, W).
            drop_prob: Drop-path probability (0-d) of each image and each operation other than the identity; the outputs
                kept are divided by 1 - drop_prob. For training only; None disables drop path.

        Returns:
            Feature maps (B, C, H, W), never `x` itself.
        """
        total: Tensor | None = None
        for operation in self.values():
            y = operation(x)
            if drop_prob is not None and not isinstance(operation, nn.Identity):
                y = drop_path(y, drop_prob)
            total = y if total is None else total + y
        assert total is not None
        return total.clone() if total is x else total
