"""Convolution of each image with its own mixture of K kernels, in several forms of equal result.

Source: y_b = conv(x_b, Σ_k c[b, k] W_k) = Σ_k c[b, k] conv(x_b, W_k), arXiv 1904.04971, section 3. For B images that is
one convolution of one image with the channels, kernels and groups of all.

Shape suffixes: B images, K kernels, O output channels, C input channels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from dl_lib.layers.geometry import ConvGeometry
from dl_lib.layers.per_image_conv import conv2d_per_image
from dl_lib.layers.tensors import is_channels_last

__all__ = ["IMPLEMENTATIONS", "Implementation", "KernelBank", "mixed_conv2d"]

Implementation = Literal["auto", "plain", "bmm", "grouped", "loop", "experts"]
IMPLEMENTATIONS: tuple[Implementation, ...] = get_args(Implementation)


@dataclass(frozen=True, eq=False)
class KernelBank:
    """The kernels to mix.

    Attributes:
        weight: (K, O, C / groups, rows, columns).
        bias: (K, O), mixed as the kernels are; or None.
        geometry: of all of them.
    """

    weight: Tensor
    bias: Tensor | None
    geometry: ConvGeometry

    def mix(self, coefficients_BK: Tensor) -> tuple[Tensor, Tensor | None]:
        """Kernels (B, O, C / groups, rows, columns) and biases (B, O) of the images."""
        kernels = (coefficients_BK @ self.weight.flatten(1)).unflatten(1, self.geometry.kernel_shape)
        return kernels, None if self.bias is None else coefficients_BK @ self.bias


def mixed_conv2d(
    x: Tensor, coefficients_BK: Tensor, *, bank: KernelBank, implementation: Implementation = "auto"
) -> Tensor:
    """Convolves each image with the kernels' sum under its coefficients; keeps the memory order of `x`.

    Args:
        x: (B, C, H, W).
        coefficients_BK: what the kernels are multiplied by.
        bank: the kernels.
        implementation: `plain` mixes one kernel, for one image; `bmm` is a product of matrices, for kernels of one
            tap; `grouped` is one convolution over all images. `auto` takes the first of these that can do it. `loop`
            goes from image to image and `experts` from kernel to kernel: they are there to be compared with.

    Raises:
        ValueError: if shapes do not fit, or the implementation cannot do it.
    """
    images, num_kernels = x.shape[0], bank.weight.shape[0]
    if coefficients_BK.shape != (images, num_kernels):
        raise ValueError(
            f"each of {images} images needs a coefficient for each of {num_kernels} kernels. "
            f"Received: shape={tuple(coefficients_BK.shape)}"
        )
    name = _choose(x, bank.geometry) if implementation == "auto" else implementation
    return _FORMS[name](x, coefficients_BK.to(bank.weight.dtype), bank)


def _choose(x: Tensor, geometry: ConvGeometry) -> Implementation:
    if x.shape[0] <= 1:
        return "plain"
    return "bmm" if geometry.is_pointwise else "grouped"


def _plain(x: Tensor, coefficients_BK: Tensor, bank: KernelBank) -> Tensor:
    if x.shape[0] > 1:
        raise ValueError(f"one kernel serves one image. Received: implementation='plain', images={x.shape[0]}")
    # The sum is the row of the one image; of no image it is 0, which makes a kernel for an output without elements.
    kernel, bias = bank.mix(coefficients_BK.sum(dim=0, keepdim=True))
    return bank.geometry.conv(x, kernel[0], None if bias is None else bias[0])


def _bmm(x: Tensor, coefficients_BK: Tensor, bank: KernelBank) -> Tensor:
    geometry = bank.geometry
    if not geometry.is_pointwise:
        raise ValueError(
            "a product of matrices is a convolution of kernel 1, padding 0 and one group. "
            f"Received: implementation='bmm', {geometry}"
        )
    kernels, bias = bank.mix(coefficients_BK)
    kernels_BOC = kernels.flatten(2)
    rows, columns = geometry.stride
    pixels = x[:, :, ::rows, ::columns]
    if is_channels_last(x):
        pixels_BPC = pixels.permute(0, 2, 3, 1).flatten(1, 2)
        y_BPO = _product(pixels_BPC, kernels_BOC.mT, None if bias is None else bias.unsqueeze(1))
        return y_BPO.unflatten(1, pixels.shape[2:]).permute(0, 3, 1, 2)
    y_BOP = _product(kernels_BOC, pixels.flatten(2), None if bias is None else bias.unsqueeze(2))
    return y_BOP.unflatten(2, pixels.shape[2:])


def _product(a: Tensor, b: Tensor, bias: Tensor | None) -> Tensor:
    return torch.bmm(a, b) if bias is None else torch.baddbmm(bias, a, b)


def _grouped(x: Tensor, coefficients_BK: Tensor, bank: KernelBank) -> Tensor:
    if x.shape[0] <= 1:
        return _plain(x, coefficients_BK, bank)
    return conv2d_per_image(x, *bank.mix(coefficients_BK), geometry=bank.geometry)


def _loop(x: Tensor, coefficients_BK: Tensor, bank: KernelBank) -> Tensor:
    images = zip(x.split(1), coefficients_BK.split(1), strict=True)
    return torch.cat([_plain(image, row, bank) for image, row in images])


def _experts(x: Tensor, coefficients_BK: Tensor, bank: KernelBank) -> Tensor:
    biases = [None] * len(bank.weight) if bank.bias is None else bank.bias
    y_KBOHW = torch.stack([bank.geometry.conv(x, *kernel) for kernel in zip(bank.weight, biases, strict=True)])
    return (coefficients_BK.T[:, :, None, None, None].to(y_KBOHW.dtype) * y_KBOHW).sum(dim=0)


_FORMS: dict[Implementation, Callable[[Tensor, Tensor, KernelBank], Tensor]] = {
    "plain": _plain,
    "bmm": _bmm,
    "grouped": _grouped,
    "loop": _loop,
    "experts": _experts,
}
