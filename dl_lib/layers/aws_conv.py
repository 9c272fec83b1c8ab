"""ConvAWS: convolution with adaptive weight standardization (DetectoRS, arXiv 2006.02334).

Weight standardization (arXiv 1903.10520) with scale and shift that preserve a pretrained kernel.
"""

from __future__ import annotations

import math
from abc import ABC
from collections.abc import MutableMapping
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dl_lib.layers.geometry import ConvGeometry, PaddingMode, Size, check_input, make_geometry

__all__ = ["ConvAWS2d", "StandardizedConv2d", "scale_and_shift"]

EPSILON = 1e-5


class StandardizedConv2d(nn.Module, ABC):
    """Convolution kernel W, standardized per filter: gamma * (W - mean) / sqrt(var + 1e-5) + beta.

    The variance is the unbiased one. gamma and beta are buffers, computed from the kernel at initialization or from a
    loaded plain kernel, so that the standardized kernel equals that kernel; training changes its direction only.

    State dict: `weight`, `bias`, `weight_gamma` and `weight_beta` (O, 1, 1, 1), as in mmcv. If a state dict has no
    gamma and beta, `weight` is the kernel of a plain convolution, from which they are computed.

    Raises:
        ValueError: If a filter has a single weight, which has no variance.
    """

    weight_gamma: Tensor
    weight_beta: Tensor

    def __init__(
        self, geometry: ConvGeometry, *, bias: bool, device: torch.device | str | None, dtype: torch.dtype | None
    ) -> None:
        super().__init__()
        if math.prod(geometry.kernel_shape[1:]) < 2:
            raise ValueError(
                f"a filter must have at least two weights to be standardized; enlarge the kernel. Received: {geometry}"
            )
        self.geometry = geometry
        out_channels = geometry.out_channels
        self.weight = nn.Parameter(torch.empty(geometry.kernel_shape, device=device, dtype=dtype))
        self.bias = nn.Parameter(torch.empty(out_channels, device=device, dtype=dtype)) if bias else None
        for name in ("weight_gamma", "weight_beta"):
            self.register_buffer(name, torch.empty(out_channels, 1, 1, 1, device=device, dtype=dtype))

    def reset_parameters(self) -> None:
        """Reinitialize kernel and bias like `nn.Conv2d`, and gamma and beta to match."""
        nn.init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        if self.bias is not None:
            bound = 1 / math.sqrt(math.prod(self.weight.shape[1:]))
            nn.init.uniform_(self.bias, -bound, bound)
        gamma, beta = scale_and_shift(self.weight.detach())
        self.weight_gamma.copy_(gamma)
        self.weight_beta.copy_(beta)

    def standardized_weight(self) -> Tensor:
        """Return the standardized kernel in the dtype of `weight`, computed in float32 or higher."""
        # A group norm with one group per filter is a single fused operation, but divides by n instead of n - 1.
        size = math.prod(self.weight.shape[1:])
        ratio = (size - 1) / size
        dtype = _at_least_float32(self.weight.dtype)
        standardized = F.group_norm(
            self.weight.to(dtype).flatten(1).unsqueeze(0),
            num_groups=self.weight.shape[0],
            weight=self.weight_gamma.to(dtype).flatten() * math.sqrt(ratio),
            bias=self.weight_beta.to(dtype).flatten(),
            eps=EPSILON * ratio,
        )
        return standardized.view(self.weight.shape).to(self.weight.dtype)

    def _load_from_state_dict(
        self, state_dict: MutableMapping[str, Any], prefix: str, *arguments: Any, **options: Any
    ) -> None:
        names = (f"{prefix}weight_gamma", f"{prefix}weight_beta")
        weight = state_dict.get(f"{prefix}weight")
        if weight is not None and weight.ndim == 4 and not any(name in state_dict for name in names):
            state_dict.update(zip(names, scale_and_shift(weight.detach()), strict=True))
        super()._load_from_state_dict(state_dict, prefix, *arguments, **options)

    def extra_repr(self) -> str:
        return f"{self.geometry}, bias={self.bias is not None}"


def scale_and_shift(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Return the gamma and beta with which standardization preserves a kernel, in float32 or higher."""
    variance, mean = torch.var_mean(weight.to(_at_least_float32(weight.dtype)), dim=(1, 2, 3), keepdim=True)
    return torch.sqrt(variance + EPSILON), mean


def _at_least_float32(dtype: torch.dtype) -> torch.dtype:
    return torch.promote_types(dtype, torch.float32)


class ConvAWS2d(StandardizedConv2d):
    """Drop-in replacement for `nn.Conv2d`: same initialization, and the same output with loaded `nn.Conv2d` weights."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size,
        stride: Size = 1,
        padding: Size | Literal["same", "valid"] = 0,
        dilation: Size = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: PaddingMode = "zeros",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(
            make_geometry(in_channels, out_channels, kernel_size, stride, padding, dilation, groups, padding_mode),
            bias=bias,
            device=device,
            dtype=dtype,
        )
        self.reset_parameters()

    def forward(self, x: Tensor) -> Tensor:
        """Return feature maps (B, O, H', W') for feature maps (B, C, H, W)."""
        check_input(x, channels=self.geometry.in_channels)
        return self.geometry.conv(x, self.standardized_weight(), self.bias)
