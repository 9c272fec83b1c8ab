"""Convolutions with norm and activation, as sequences of the named modules `conv`, `norm` and `act`.

Convolutions have no bias unless requested and use He normal initialization by fan-in (arXiv 1502.01852).
"""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from dl_lib.layers.depthwise import DilatedConv2d
from dl_lib.layers.norm import make_norm

__all__ = ["conv2d", "conv_norm_act", "separable_conv"]


def conv2d(
    in_channels: int,
    out_channels: int,
    kernel_size: int = 1,
    *,
    stride: int = 1,
    padding: int | None = None,
    dilation: int = 1,
    groups: int = 1,
    bias: bool = False,
) -> nn.Conv2d:
    """Build a convolution; the default padding preserves the size at stride 1."""
    make = nn.Conv2d if dilation == 1 else DilatedConv2d
    conv = make(
        in_channels,
        out_channels,
        kernel_size,
        stride=stride,
        padding=dilation * (kernel_size // 2) if padding is None else padding,
        dilation=dilation,
        groups=groups,
        bias=bias,
    )
    nn.init.kaiming_normal_(conv.weight, mode="fan_in", nonlinearity="relu")
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)
    return conv


def conv_norm_act(
    in_channels: int,
    out_channels: int,
    kernel_size: int = 1,
    *,
    norm: str,
    stride: int = 1,
    padding: int | None = None,
    act: bool = True,
) -> nn.Sequential:
    """Build a convolution, followed by a norm and, if `act` is set, ReLU."""
    parts: OrderedDict[str, nn.Module] = OrderedDict(
        conv=conv2d(in_channels, out_channels, kernel_size, stride=stride, padding=padding),
        norm=make_norm(norm, out_channels),
    )
    if act:
        parts["act"] = nn.ReLU(inplace=True)
    return nn.Sequential(parts)


def separable_conv(
    in_channels: int,
    out_channels: int,
    kernel_size: int,
    *,
    norm: str,
    stride: int = 1,
    dilation: int = 1,
    act: bool = True,
) -> nn.Sequential:
    """Build a depthwise and a pointwise convolution, followed by a norm and, if `act` is set, ReLU."""
    parts: OrderedDict[str, nn.Module] = OrderedDict(
        depthwise=conv2d(in_channels, in_channels, kernel_size, stride=stride, dilation=dilation, groups=in_channels),
        pointwise=conv2d(in_channels, out_channels),
        norm=make_norm(norm, out_channels),
    )
    if act:
        parts["act"] = nn.ReLU(inplace=True)
    return nn.Sequential(parts)
