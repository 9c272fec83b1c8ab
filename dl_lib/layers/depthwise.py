"""Depthwise convolution with fast gradients on CPUs (stride 1).

Both gradients are themselves convolutions. The gradient of the input is the output gradient convolved with the flipped
kernel; the gradient of the kernel is the input convolved with the output gradient as kernel and the dilation as stride.
For dilated convolutions, torch's own gradients take five times as long as the forward pass, or more (docs/log.md). For
channels-last input and for large strides, pixels that interact are regrouped so that no dilation remains.

Depthwise convolution is memory-bound on CPUs: in training, feature maps that exceed the CPU caches are processed in
chunks of channels. Channels are independent, so those of all images can be stacked in one image.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.grad import conv2d_weight

from dl_lib.layers.feature_maps import is_channels_last, without_autocast

__all__ = ["DilatedConv2d", "conv2d_fast_depthwise", "kernel_extent"]

BYTES_PER_THREAD = 2 * 2**20  # size of a chunk of feature maps; docs/log.md has timings of other sizes
CHANNELS_IN_BLOCK = 16  # channels that CPU kernels compute together
MAX_FAST_STRIDE = 3  # along the rows; convolutions with larger strides take eight times as long
MAX_FILL_RATIO = 4  # pixels after regrouping, zeros included, to pixels before; no gain beyond this
FAST_DTYPES = {torch.float32, torch.bfloat16}  # supported by oneDNN; the gradient convolutions of others are slow

Pair = tuple[int, int]


def conv2d_fast_depthwise(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    groups: int,
) -> Tensor:
    """Compute `torch.nn.functional.conv2d`, with faster gradients of depthwise convolutions on CPUs.

    Shapes are those of that function; all pairs are (rows, columns). The fast path supports neither forward-mode
    differentiation nor `vmap`, and hence no `is_grads_batched`.
    """
    extent = kernel_extent(weight.shape[2:], dilation)
    autocast = torch.is_autocast_enabled("cpu")
    requires_grad = x.requires_grad or weight.requires_grad or (bias is not None and bias.requires_grad)
    has_fast_gradient = (
        torch.is_grad_enabled()
        and requires_grad
        and not torch.compiler.is_compiling()  # torch 2.6 cannot compile it for images of several sizes
        and x.device.type == "cpu"
        and x.ndim == 4
        and x.shape[0] > 0
        and groups == x.shape[1] == weight.shape[0]
        and (bias is None or bias.shape == (groups,))
        and {x.dtype, weight.dtype} <= FAST_DTYPES
        and (x.dtype == weight.dtype or autocast)
        and stride == (1, 1)
        and all(pixels <= limit for pixels, limit in zip(padding, extent, strict=True))
    )
    in_chunks = has_fast_gradient and any(extent) and _exceeds_caches(x)
    if not (in_chunks or (has_fast_gradient and max(dilation) > 1)):
        return F.conv2d(x, weight, bias, stride, padding, dilation, groups)
    if autocast:
        dtype = torch.get_autocast_dtype("cpu")
        x, weight, bias = x.to(dtype), weight.to(dtype), None if bias is None else bias.to(dtype)
    if not in_chunks:
        return _Depthwise.apply(x, weight, bias, padding, dilation)
    num_images = x.shape[0]
    stacked, kernels = x.reshape(1, -1, *x.shape[2:]), weight.repeat(num_images, 1, 1, 1)
    y: Tensor = _Depthwise.apply(stacked, kernels, None if bias is None else bias.repeat(num_images), padding, dilation)
    return y.unflatten(1, (num_images, groups)).squeeze(0)


def kernel_extent(kernel_size: Sequence[int], dilation: Pair) -> Pair:
    """Return the distance from the first to the last tap of a kernel in pixels, dilation * (kernel_size - 1)."""
    rows, columns = (rate * (side - 1) for rate, side in zip(dilation, kernel_size, strict=True))
    return rows, columns


def _exceeds_caches(x: Tensor) -> bool:
    # A chunk of channels of a channels-last tensor would have to be gathered element by element.
    return x.nbytes > torch.get_num_threads() * BYTES_PER_THREAD and not is_channels_last(x)


def _channel_chunks(x: Tensor) -> list[slice]:
    """Return the channels of (B, C, H, W) to process together: all of them, except for large single images."""
    num_images, channels = x.shape[:2]
    if num_images > 1 or not _exceeds_caches(x):
        return [slice(0, channels)]
    blocks = torch.get_num_threads() * BYTES_PER_THREAD // (CHANNELS_IN_BLOCK * x[0, 0].nbytes)
    size = CHANNELS_IN_BLOCK * max(1, blocks)
    return [slice(first, first + size) for first in range(0, channels, size)]


class _Depthwise(torch.autograd.Function):
    @staticmethod
    def forward(x: Tensor, weight: Tensor, bias: Tensor | None, padding: Pair, dilation: Pair) -> Tensor:
        def conv(chunk: slice) -> Tensor:
            chunk_bias = None if bias is None else bias[chunk]
            return F.conv2d(x[:, chunk], weight[chunk], chunk_bias, 1, padding, dilation, len(weight[chunk]))

        chunks = _channel_chunks(x)
        if len(chunks) == 1:
            return conv(chunks[0])
        extent = kernel_extent(weight.shape[2:], dilation)
        sizes = [side + 2 * pixels - lost for side, pixels, lost in zip(x.shape[2:], padding, extent, strict=True)]
        y = x.new_empty(*x.shape[:2], *sizes)
        for chunk in chunks:
            y[:, chunk] = conv(chunk)
        return y

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, weight, _, ctx.padding, ctx.dilation = inputs
        ctx.save_for_backward(x, weight)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        with without_autocast(grad):  # like torch's own backward formulas
            return _gradients(ctx, grad)


def _gradients(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    x, weight = ctx.saved_tensors
    needs_x, needs_weight, needs_bias = ctx.needs_input_grad[:3]
    extent = kernel_extent(weight.shape[2:], ctx.dilation)
    input_padding = [full - pixels for full, pixels in zip(extent, ctx.padding, strict=True)]

    def input_gradient(chunk: slice) -> Tensor:
        kernels = weight[chunk].flip(2, 3)
        return F.conv2d(grad[:, chunk], kernels, None, 1, input_padding, ctx.dilation, len(kernels))

    def weight_gradient(chunk: slice) -> Tensor:
        return _weight_gradient(x[:, chunk], grad[:, chunk], weight[chunk], ctx.padding, ctx.dilation)

    chunks = _channel_chunks(x)
    if len(chunks) == 1:
        grad_x = input_gradient(chunks[0]) if needs_x else None
        grad_weight = weight_gradient(chunks[0]) if needs_weight else None
    else:
        grad_x = torch.empty_like(x) if needs_x else None
        grad_weight = torch.empty_like(weight) if needs_weight else None
        for chunk in chunks:  # both gradients of a chunk while it is in the caches
            if grad_x is not None:
                grad_x[:, chunk] = input_gradient(chunk)
            if grad_weight is not None:
                grad_weight[chunk] = weight_gradient(chunk)
    return grad_x, grad_weight, grad.sum(dim=(0, 2, 3)) if needs_bias else None, None, None


def _weight_gradient(x: Tensor, grad: Tensor, weight: Tensor, padding: Pair, dilation: Pair) -> Tensor:
    channels = x.shape[1]
    if not is_channels_last(x) and dilation[1] <= MAX_FAST_STRIDE:
        stacked, kernels = x.reshape(1, -1, *x.shape[2:]), grad.reshape(-1, 1, *grad.shape[2:])
        taps = F.conv2d(stacked, kernels, None, dilation, padding, 1, len(kernels))
        return taps.view(len(x), *weight.shape).sum(dim=0)
    sizes = [math.ceil(side / rate) for side, rate in zip(grad.shape[2:], dilation, strict=True)]
    input_sizes = [size + side - 1 for size, side in zip(sizes, weight.shape[2:], strict=True)]
    if math.prod(input_sizes) * math.prod(dilation) > MAX_FILL_RATIO * math.prod(x.shape[2:]):
        return conv2d_weight(x, weight.shape, grad, 1, padding, dilation, channels)
    x_phases, grad_phases = _phases(x, padding, dilation, input_sizes), _phases(grad, (0, 0), dilation, sizes)
    return conv2d_weight(x_phases, weight.shape, grad_phases, groups=channels)


def _phases(x: Tensor, margins: Pair, steps: Pair, sizes: Sequence[int]) -> Tensor:
    """Split feature maps (B, C, H, W) into their polyphase components, in channels-last order.

    A component holds the pixels that are whole steps apart.

    Args:
        x: Feature maps; copied fast if in channels-last order.
        margins: Zeros added at the top and left.
        steps: Steps (a, b).
        sizes: Size (h, w) of the components, zero-padded.

    Returns:
        Components (B * a * b, C, h, w).
    """
    ends = [s * size - m - side for s, size, m, side in zip(steps, sizes, margins, x.shape[2:], strict=True)]
    x_BHWC = F.pad(x, (margins[1], ends[1], margins[0], ends[0])).permute(0, 2, 3, 1)
    x_BhawbC = x_BHWC.unflatten(2, (sizes[1], steps[1])).unflatten(1, (sizes[0], steps[0]))
    return x_BhawbC.permute(0, 2, 4, 1, 3, 5).flatten(0, 2).permute(0, 3, 1, 2)


class DilatedConv2d(nn.Conv2d):
    """`nn.Conv2d` with zero padding, computed by `conv2d_fast_depthwise`."""

    def forward(self, x: Tensor) -> Tensor:
        assert self.padding_mode == "zeros" and not isinstance(self.padding, str)
        options: dict[str, Any] = {name: getattr(self, name) for name in ("stride", "padding", "dilation", "groups")}
        return conv2d_fast_depthwise(x, self.weight, self.bias, **options)
