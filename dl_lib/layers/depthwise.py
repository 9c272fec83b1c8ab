"""Depthwise convolution, at stride 1, as CPUs are fast at it.

Its gradients are convolutions, too: that of the maps is one of the output's gradient with the kernel turned round;
that of the kernel is one of the maps with the output's gradient for a kernel, in steps as wide as the dilation. Where
there is a dilation, torch's own take five times as long as the forward pass, or more (docs/log.md). In channels-last
order, and where steps are too wide, pixels that see one another are put together, so that there is no dilation.

So little is done with each number that CPUs wait for memory: in training, maps that exceed the cores' caches go through
in parts of some channels. Each channel has a kernel of its own, so that those of all images may lie side by side.
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

__all__ = ["DilatedConv2d", "conv2d_fast_depthwise", "reach"]

BYTES_PER_THREAD = 2 * 2**20  # of maps that go through at a time; docs/log.md has what other sizes take
CHANNELS_IN_BLOCK = 16  # that CPUs calculate at once
FAST_STEP = 3  # the widest of a convolution along the rows; beyond it takes eight times as long
MOST_FILLED = 4  # times as many pixels, zeros included: beyond, putting them together gains nothing
FAST_DTYPES = {torch.float32, torch.bfloat16}  # oneDNN's: with others the gradients' convolutions are slow

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
    """`torch.nn.functional.conv2d`, where each channel is alone with faster gradients on CPUs.

    Of these there is no forward mode and no `vmap`, and so no gradients in batches (`is_grads_batched`).

    Args:
        x: (B, C, H, W).
        weight: (O, C / groups, rows, columns).
        bias: (O,).
        stride: steps of the kernel, as all pairs of (rows, columns).
        padding: zeros at either side.
        dilation: distance of neighbouring taps.
        groups: of channels that do not see one another.
    """
    furthest = reach(weight.shape[2:], dilation)
    casts = torch.is_autocast_enabled("cpu")
    learns = x.requires_grad or weight.requires_grad or (bias is not None and bias.requires_grad)
    can_be_own = (
        torch.is_grad_enabled()
        and learns
        and not torch.compiler.is_compiling()  # torch 2.6 cannot compile it for images of several sizes
        and x.device.type == "cpu"
        and x.ndim == 4
        and x.shape[0] > 0
        and groups == x.shape[1] == weight.shape[0]
        and (bias is None or bias.shape == (groups,))
        and {x.dtype, weight.dtype} <= FAST_DTYPES
        and (x.dtype == weight.dtype or casts)
        and stride == (1, 1)
        and all(pixels <= most for pixels, most in zip(padding, furthest, strict=True))
    )
    in_parts = can_be_own and any(furthest) and _exceeds_caches(x)
    if not (in_parts or (can_be_own and max(dilation) > 1)):
        return F.conv2d(x, weight, bias, stride, padding, dilation, groups)
    if casts:
        dtype = torch.get_autocast_dtype("cpu")
        x, weight, bias = x.to(dtype), weight.to(dtype), None if bias is None else bias.to(dtype)
    if not in_parts:
        return _Depthwise.apply(x, weight, bias, padding, dilation)
    images = x.shape[0]
    maps, kernels = x.reshape(1, -1, *x.shape[2:]), weight.repeat(images, 1, 1, 1)
    y: Tensor = _Depthwise.apply(maps, kernels, None if bias is None else bias.repeat(images), padding, dilation)
    return y.unflatten(1, (images, groups)).squeeze(0)


def reach(kernel_size: Sequence[int], dilation: Pair) -> Pair:
    """Pixels from the first to the last tap of a kernel, on both axes."""
    rows, columns = (rate * (side - 1) for rate, side in zip(dilation, kernel_size, strict=True))
    return rows, columns


def _exceeds_caches(x: Tensor) -> bool:
    # In channels-last order a part would have to be copied together, number by number.
    return x.nbytes > torch.get_num_threads() * BYTES_PER_THREAD and not is_channels_last(x)


def _parts(x: Tensor) -> list[slice]:
    """Channels of maps (B, C, H, W) that go through together: all of them, but for large maps of one image."""
    images, channels = x.shape[:2]
    if images > 1 or not _exceeds_caches(x):
        return [slice(0, channels)]
    blocks = torch.get_num_threads() * BYTES_PER_THREAD // (CHANNELS_IN_BLOCK * x[0, 0].nbytes)
    at_once = CHANNELS_IN_BLOCK * max(1, blocks)
    return [slice(first, first + at_once) for first in range(0, channels, at_once)]


class _Depthwise(torch.autograd.Function):
    @staticmethod
    def forward(x: Tensor, weight: Tensor, bias: Tensor | None, padding: Pair, dilation: Pair) -> Tensor:
        def conv(part: slice) -> Tensor:
            biases = None if bias is None else bias[part]
            return F.conv2d(x[:, part], weight[part], biases, 1, padding, dilation, len(weight[part]))

        parts = _parts(x)
        if len(parts) == 1:
            return conv(parts[0])
        lost = reach(weight.shape[2:], dilation)
        sizes = [side + 2 * pixels - less for side, pixels, less in zip(x.shape[2:], padding, lost, strict=True)]
        y = x.new_empty(*x.shape[:2], *sizes)
        for part in parts:
            y[:, part] = conv(part)
        return y

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, weight, _, ctx.padding, ctx.dilation = inputs
        ctx.save_for_backward(x, weight)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        with without_autocast(grad):  # as torch's own gradients, wherever they are asked for
            return _gradients(ctx, grad)


def _gradients(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    x, weight = ctx.saved_tensors
    needs_x, needs_weight, needs_bias = ctx.needs_input_grad[:3]
    furthest = reach(weight.shape[2:], ctx.dilation)
    margins = [most - pixels for most, pixels in zip(furthest, ctx.padding, strict=True)]

    def of_maps(part: slice) -> Tensor:
        kernels = weight[part].flip(2, 3)
        return F.conv2d(grad[:, part], kernels, None, 1, margins, ctx.dilation, len(kernels))

    def of_kernels(part: slice) -> Tensor:
        return _gradient_of_kernels(x[:, part], grad[:, part], weight[part], ctx.padding, ctx.dilation)

    parts = _parts(x)
    if len(parts) == 1:
        grad_x = of_maps(parts[0]) if needs_x else None
        grad_weight = of_kernels(parts[0]) if needs_weight else None
    else:
        grad_x = torch.empty_like(x) if needs_x else None
        grad_weight = torch.empty_like(weight) if needs_weight else None
        for part in parts:  # both of one part, while it is in the caches
            if grad_x is not None:
                grad_x[:, part] = of_maps(part)
            if grad_weight is not None:
                grad_weight[part] = of_kernels(part)
    return grad_x, grad_weight, grad.sum(dim=(0, 2, 3)) if needs_bias else None, None, None


def _gradient_of_kernels(x: Tensor, grad: Tensor, weight: Tensor, padding: Pair, dilation: Pair) -> Tensor:
    channels = x.shape[1]
    if not is_channels_last(x) and dilation[1] <= FAST_STEP:
        maps, kernels = x.reshape(1, -1, *x.shape[2:]), grad.reshape(-1, 1, *grad.shape[2:])
        taps = F.conv2d(maps, kernels, None, dilation, padding, 1, len(kernels))
        return taps.view(len(x), *weight.shape).sum(dim=0)
    sizes = [math.ceil(side / rate) for side, rate in zip(grad.shape[2:], dilation, strict=True)]
    seen = [size + side - 1 for size, side in zip(sizes, weight.shape[2:], strict=True)]
    if math.prod(seen) * math.prod(dilation) > MOST_FILLED * math.prod(x.shape[2:]):
        return conv2d_weight(x, weight.shape, grad, 1, padding, dilation, channels)
    maps, slopes = _phases(x, padding, dilation, seen), _phases(grad, (0, 0), dilation, sizes)
    return conv2d_weight(maps, weight.shape, slopes, groups=channels)


def _phases(x: Tensor, margins: Pair, steps: Pair, sizes: Sequence[int]) -> Tensor:
    """Pixels of maps (B, C, H, W) that are whole steps apart, as maps of their own, in channels-last order.

    Args:
        x: copied fast where it is in channels-last order.
        margins: zeros above and on the left.
        steps: a, b.
        sizes: h, w, which the maps are filled up to with zeros.

    Returns:
        (B * a * b, C, h, w).
    """
    ends = [s * size - m - side for s, size, m, side in zip(steps, sizes, margins, x.shape[2:], strict=True)]
    x_BHWC = F.pad(x, (margins[1], ends[1], margins[0], ends[0])).permute(0, 2, 3, 1)
    x_BhawbC = x_BHWC.unflatten(2, (sizes[1], steps[1])).unflatten(1, (sizes[0], steps[0]))
    return x_BhawbC.permute(0, 2, 4, 1, 3, 5).flatten(0, 2).permute(0, 3, 1, 2)


class DilatedConv2d(nn.Conv2d):
    """`nn.Conv2d` with zeros for margins, by `conv2d_fast_depthwise`."""

    def forward(self, x: Tensor) -> Tensor:
        assert self.padding_mode == "zeros" and not isinstance(self.padding, str)
        options: dict[str, Any] = {name: getattr(self, name) for name in ("stride", "padding", "dilation", "groups")}
        return conv2d_fast_depthwise(x, self.weight, self.bias, **options)
