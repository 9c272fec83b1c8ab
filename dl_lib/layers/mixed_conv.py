"""Base class of convolutions with a per-image mixture of K kernels (CondConv, dynamic convolution)."""

from __future__ import annotations

import math
from abc import ABC
from collections.abc import Callable, MutableMapping
from typing import Any

import torch
from torch import Tensor, nn

from dl_lib.layers.geometry import ConvGeometry, check_input
from dl_lib.layers.kernel_mixing import IMPLEMENTATIONS, Implementation, KernelBank, mixed_conv2d
from dl_lib.utils.names import nearest_names

__all__ = ["MixedConv2d"]


class MixedConv2d(nn.Module, ABC):
    """Convolution with K kernels and biases; subclasses define their initialization and the mixing coefficients.

    State dict: `weight` (K, O, C / groups, rows, columns), also loaded from timm's shape (K, -1), and `bias` (K, O).

    Raises:
        ValueError: If there is no kernel.
        KeyError: If the implementation does not exist.
    """

    bias: nn.Parameter | None

    def __init__(
        self,
        geometry: ConvGeometry,
        *,
        num_kernels: int,
        bias: bool,
        implementation: Implementation,
        device: torch.device | str | None,
        dtype: torch.dtype | None,
    ) -> None:
        super().__init__()
        if num_kernels < 1:
            raise ValueError(f"the number of kernels must be at least 1. Received: num_kernels={num_kernels}")
        if implementation not in IMPLEMENTATIONS:
            raise KeyError(
                f"unknown implementation; {nearest_names(implementation, IMPLEMENTATIONS)}. "
                f"Received: implementation={implementation!r}"
            )
        self.geometry, self.num_kernels, self.implementation = geometry, num_kernels, implementation
        self.weight = nn.Parameter(torch.empty(num_kernels, *geometry.kernel_shape, device=device, dtype=dtype))
        self.bias = (
            nn.Parameter(torch.empty(num_kernels, geometry.out_channels, device=device, dtype=dtype)) if bias else None
        )

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> MixedConv2d:
        # `to(memory_format=torch.channels_last)` fails for five-dimensional tensors.
        def apply(tensor: Tensor) -> Tensor:
            return fn(tensor.flatten(1)).unflatten(1, tensor.shape[1:]) if tensor.ndim == 5 else fn(tensor)

        return super()._apply(apply, recurse)

    @torch.no_grad()
    def _reset_kernels(self, *, slope: float) -> None:
        """Initialize each kernel by He uniform initialization by fan-in, for a leaky ReLU of this slope."""
        for kernel in self.weight:  # one by one, because the fan-in of the five-dimensional tensor is wrong
            nn.init.kaiming_uniform_(kernel, a=slope)

    def _mixed_conv(self, x: Tensor, coefficients_BK: Tensor | None, *, weigh: nn.Module | None) -> Tensor:
        """Convolve with kernels mixed by these coefficients; if they are None, `weigh` computes them from `x`."""
        check_input(x, channels=self.geometry.in_channels)
        if coefficients_BK is None:
            if weigh is None:
                raise ValueError(
                    f"this {type(self).__name__} does not compute its mixing weights; pass them with each call. "
                    "Received: coefficients=None"
                )
            coefficients_BK = weigh(x)
        bank = KernelBank(self.weight, self.bias, self.geometry)
        return mixed_conv2d(x, coefficients_BK, bank=bank, implementation=self.implementation)

    def _load_from_state_dict(
        self, state_dict: MutableMapping[str, Any], prefix: str, *arguments: Any, **options: Any
    ) -> None:
        name = f"{prefix}weight"
        if name in state_dict and state_dict[name].shape == (self.num_kernels, math.prod(self.geometry.kernel_shape)):
            state_dict[name] = state_dict[name].view(self.weight.shape)
        super()._load_from_state_dict(state_dict, prefix, *arguments, **options)

    def extra_repr(self) -> str:
        return f"{self.geometry}, num_kernels={self.num_kernels}, bias={self.bias is not None}"
