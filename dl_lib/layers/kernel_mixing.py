"""Convolution with a per-image mixture of K kernels (arXiv 1904.04971, section 3), in several equivalent forms.

y_b = conv(x_b, Σ_k c[b, k] W_k) = Σ_k c[b, k] conv(x_b, W_k). For B images this is one grouped convolution of a single
image that stacks the channels, kernels and groups of all images.

Shape suffixes: B images, K kernels, O output channels, C input channels, H rows, W columns, P pixels.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from dl_lib.layers.feature_maps import is_channels_last
from dl_lib.layers.geometry import ConvGeometry

__all__ = ["IMPLEMENTATIONS", "Implementation", "KernelBank", "mixed_conv2d"]

Implementation = Literal["auto", "plain", "bmm", "grouped", "loop", "experts"]
IMPLEMENTATIONS: tuple[Implementation, ...] = get_args(Implementation)


@dataclass(frozen=True, eq=False)
class KernelBank:
    """Kernels to mix.

    Attributes:
        weight: Kernels (K, O, C / groups, rows, columns).
        bias: Biases (K, O), mixed like the kernels; None without bias.
        geometry: Hyperparameters of the convolution.
    """

    weight: Tensor
    bias: Tensor | None
    geometry: ConvGeometry

    def mix(self, coefficients_BK: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the mixed kernels (B, O, C / groups, rows, columns) and biases (B, O) of the images."""
        kernels = (coefficients_BK @ self.weight.flatten(1)).unflatten(1, self.geometry.kernel_shape)
        return kernels, None if self.bias is None else coefficients_BK @ self.bias


def mixed_conv2d(
    x: Tensor, coefficients_BK: Tensor, *, bank: KernelBank, implementation: Implementation = "auto"
) -> Tensor:
    """Convolve each image with its own mixture of the kernels; the memory format of `x` is preserved.

    Args:
        x: Feature maps (B, C, H, W).
        coefficients_BK: Coefficient of each kernel.
        bank: Kernels to mix.
        implementation: `plain` mixes one kernel and supports a single image only. `bmm` is a batched matrix product,
            for pointwise kernels. `grouped` is one grouped convolution over all images. `auto` uses the first of these
            that supports the input. `loop` runs image by image and `experts` kernel by kernel; both are references.

    Raises:
        ValueError: If shapes do not match, or if the implementation does not support the input.
    """
    num_images, num_kernels = x.shape[0], bank.weight.shape[0]
    if coefficients_BK.shape != (num_images, num_kernels):
        raise ValueError(
            f"coefficients must have shape (images, kernels) = ({num_images}, {num_kernels}). "
            f"Received: shape={tuple(coefficients_BK.shape)}"
        )
    name = _choose(x, bank.geometry) if implementation == "auto" else implementation
    return _FUNCTIONS[name](x, coefficients_BK.to(bank.weight.dtype), bank)


def _choose(x: Tensor, geometry: ConvGeometry) -> Implementation:
    if x.shape[0] <= 1:
        return "plain"
    return "bmm" if geometry.is_pointwise else "grouped"


def _plain(x: Tensor, coefficients_BK: Tensor, bank: KernelBank) -> Tensor:
    if x.shape[0] > 1:
        raise ValueError(
            f"implementation 'plain' supports a single image. Received: implementation='plain', images={x.shape[0]}"
        )
    # `sum` also handles an empty batch: a zero kernel, for an output without elements.
    kernel, bias = bank.mix(coefficients_BK.sum(dim=0, keepdim=True))
    return bank.geometry.conv(x, kernel[0], None if bias is None else bias[0])


def _bmm(x: Tensor, coefficients_BK: Tensor, bank: KernelBank) -> Tensor:
    geometry = bank.geometry
    if not geometry.is_pointwise:
        raise ValueError(
            "implementation 'bmm' supports pointwise convolutions only: kernel size 1, no padding, one group. "
            f"Received: implementation='bmm', {geometry}"
        )
    kernels, bias = bank.mix(coefficients_BK)
    kernels_BOC = kernels.flatten(2)
    row_stride, column_stride = geometry.stride
    pixels = x[:, :, ::row_stride, ::column_stride]
    if is_channels_last(x):
        pixels_BPC = pixels.permute(0, 2, 3, 1).flatten(1, 2)
        y_BPO = _bmm_with_bias(pixels_BPC, kernels_BOC.mT, None if bias is None else bias.unsqueeze(1))
        return y_BPO.unflatten(1, pixels.shape[2:]).permute(0, 3, 1, 2)
    y_BOP = _bmm_with_bias(kernels_BOC, pixels.flatten(2), None if bias is None else bias.unsqueeze(2))
    return y_BOP.unflatten(2, pixels.shape[2:])


def _bmm_with_bias(a: Tensor, b: Tensor, bias: Tensor | None) -> Tensor:
    return torch.bmm(a, b) if bias is None else torch.baddbmm(bias, a, b)


def _grouped(x: Tensor, coefficients_BK: Tensor, bank: KernelBank) -> Tensor:
    num_images = x.shape[0]
    if num_images <= 1:
        return _plain(x, coefficients_BK, bank)
    kernels, biases_BO = bank.mix(coefficients_BK)
    geometry, channels_last = bank.geometry, is_channels_last(x)
    weight, bias = kernels.flatten(0, 1), None if biases_BO is None else biases_BO.flatten()
    # The convolution needs input and kernels in one memory format, and kernels are contiguous. For channels-last input
    # the smaller of the two is converted; the convolution itself converts the kernels.
    if channels_last and math.prod(x.shape[1:]) > math.prod(geometry.kernel_shape):
        y = geometry.conv(_stack_images_channels_last(x), weight, bias, images=num_images)
        y_1HWBO = y.permute(0, 2, 3, 1).unflatten(3, (num_images, geometry.out_channels))
        return y_1HWBO.squeeze(0).permute(2, 3, 0, 1).contiguous(memory_format=torch.channels_last)
    y = geometry.conv(x.reshape(1, -1, *x.shape[2:]), weight, bias, images=num_images)
    y = y.unflatten(1, (num_images, geometry.out_channels)).squeeze(0)
    return y.contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)


def _stack_images_channels_last(x: Tensor) -> Tensor:
    """Return channels-last feature maps (B, C, H, W) as one (1, B * C, H, W) in the same order, copying runs of C."""
    # The leading dimension is added first: added last, its stride would hide the channels-last order from torch.
    x_1HWBC = x.permute(2, 3, 0, 1).unsqueeze(0)
    return x_1HWBC.flatten(3).permute(0, 3, 1, 2)


def _loop(x: Tensor, coefficients_BK: Tensor, bank: KernelBank) -> Tensor:
    images = zip(x.split(1), coefficients_BK.split(1), strict=True)
    return torch.cat([_plain(image, row, bank) for image, row in images])


def _experts(x: Tensor, coefficients_BK: Tensor, bank: KernelBank) -> Tensor:
    biases = [None] * len(bank.weight) if bank.bias is None else bank.bias
    y_KBOHW = torch.stack([bank.geometry.conv(x, *kernel) for kernel in zip(bank.weight, biases, strict=True)])
    return (coefficients_BK.T[:, :, None, None, None].to(y_KBOHW.dtype) * y_KBOHW).sum(dim=0)


_FUNCTIONS: dict[Implementation, Callable[[Tensor, Tensor, KernelBank], Tensor]] = {
    "plain": _plain,
    "bmm": _bmm,
    "grouped": _grouped,
    "loop": _loop,
    "experts": _experts,
}
