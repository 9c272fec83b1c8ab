"""Depthwise convolution with dilation, whose gradients are convolutions that CPUs are fast at.

On CPUs torch's own gradients of these take five times as long as the forward pass, or more (docs/log.md). At stride 1
both are convolutions themselves: that of the maps is one of the output's gradient with the kernel turned round; that of
the kernel is one of the maps with the output's gradient for a kernel, in steps as wide as the dilation.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["DilatedConv2d", "conv2d_any_dilation"]

Pair = tuple[int, int]


def conv2d_any_dilation(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    groups: int,
) -> Tensor:
    """`torch.nn.functional.conv2d`, with faster gradients on CPUs where there is a dilation and each channel is alone.

    Args:
        x: (B, C, H, W).
        weight: (O, C / groups, rows, columns).
        bias: (O,).
        stride: steps of the kernel, as all pairs of (rows, columns).
        padding: zeros at either side.
        dilation: distance of neighbouring taps.
        groups: of channels that do not see one another.
    """
    reach = [rate * (side - 1) for rate, side in zip(dilation, weight.shape[2:], strict=True)]
    is_slow = (
        x.device.type == "cpu"
        and max(dilation) > 1
        and groups == x.shape[1] == weight.shape[0]
        and stride == (1, 1)
        and all(pixels <= most for pixels, most in zip(padding, reach, strict=True))
        and x.dtype == weight.dtype
        and not torch.is_autocast_enabled("cpu")  # which would give the two gradients types of its own
        and not torch.compiler.is_compiling()  # torch 2.6 cannot compile it for images of several sizes
        and x.shape[0] > 0
    )
    if is_slow:
        return _Depthwise.apply(x, weight, bias, padding, dilation)
    return F.conv2d(x, weight, bias, stride, padding, dilation, groups)


class _Depthwise(torch.autograd.Function):
    @staticmethod
    def forward(x: Tensor, weight: Tensor, bias: Tensor | None, padding: Pair, dilation: Pair) -> Tensor:
        return F.conv2d(x, weight, bias, 1, padding, dilation, len(weight))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, weight, _, ctx.padding, ctx.dilation = inputs
        ctx.save_for_backward(x, weight)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        images, channels = grad.shape[:2]
        grad_x = grad_weight = grad_bias = None
        if ctx.needs_input_grad[0]:
            margins = [
                rate * (side - 1) - pixels
                for rate, side, pixels in zip(ctx.dilation, weight.shape[2:], ctx.padding, strict=True)
            ]
            grad_x = F.conv2d(grad, weight.flip(2, 3), None, 1, margins, ctx.dilation, channels)
        if ctx.needs_input_grad[1]:
            maps, kernels = x.reshape(1, -1, *x.shape[2:]), grad.reshape(-1, 1, *grad.shape[2:])
            taps = F.conv2d(maps, kernels, None, ctx.dilation, ctx.padding, 1, images * channels)
            grad_weight = taps.view(images, *weight.shape).sum(dim=0)
        if ctx.needs_input_grad[2]:
            grad_bias = grad.sum(dim=(0, 2, 3))
        return grad_x, grad_weight, grad_bias, None, None


class DilatedConv2d(nn.Conv2d):
    """`nn.Conv2d` with zeros for margins, by `conv2d_any_dilation`."""

    def forward(self, x: Tensor) -> Tensor:
        assert self.padding_mode == "zeros" and not isinstance(self.padding, str)
        options: dict[str, Any] = {name: getattr(self, name) for name in ("stride", "padding", "dilation", "groups")}
        return conv2d_any_dilation(x, self.weight, self.bias, **options)
