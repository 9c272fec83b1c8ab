"""Convolution of each image with a kernel of its own.

For B images it is one convolution of one image, with the channels, kernels and groups of all side by side.

Shape suffixes: B images, O output channels, C input channels, H rows, W columns.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from dl_lib.layers.geometry import ConvGeometry
from dl_lib.layers.tensors import is_channels_last

__all__ = ["conv2d_per_image"]


def conv2d_per_image(x: Tensor, kernels: Tensor, biases_BO: Tensor | None, *, geometry: ConvGeometry) -> Tensor:
    """Maps (B, O, H', W') in the memory order of `x`.

    Args:
        x: (B, C, H, W).
        kernels: (B, O, C / groups, rows, columns).
        biases_BO: or None.
        geometry: of all kernels.
    """
    images, channels_last = x.shape[0], is_channels_last(x)
    weight, bias = kernels.flatten(0, 1), None if biases_BO is None else biases_BO.flatten()
    # The convolution wants maps and kernels in one order. Kernels lie in rows and columns: of maps that do not, the
    # smaller of the two is turned round, the kernels by the convolution itself.
    if channels_last and math.prod(x.shape[1:]) > math.prod(geometry.kernel_shape):
        y = geometry.conv(_pixels_side_by_side(x), weight, bias, images=images)
        y_1HWBO = y.permute(0, 2, 3, 1).unflatten(3, (images, geometry.out_channels))
        return y_1HWBO.squeeze(0).permute(2, 3, 0, 1).contiguous(memory_format=torch.channels_last)
    y = geometry.conv(x.reshape(1, -1, *x.shape[2:]), weight, bias, images=images)
    y = y.unflatten(1, (images, geometry.out_channels)).squeeze(0)
    return y.contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)


def _pixels_side_by_side(x: Tensor) -> Tensor:
    """Maps (B, C, H, W) in channels-last order as one, (1, B * C, H, W), in the same: copies runs of C numbers."""
    # The dimension of size 1 is there from the start: added at the end, its stride would hide the order from torch.
    x_1HWBC = x.permute(2, 3, 0, 1).unsqueeze(0)
    return x_1HWBC.flatten(3).permute(0, 3, 1, 2)
