"""Convolution with weight standardisation whose scale and shift come from the plain kernel that it was (ConvAWS).

Source: weight standardisation is of arXiv 1903.10520; in this form it is part of DetectoRS, arXiv 2006.02334.
"""

from __future__ import annotations

import math
from abc import ABC
from collections.abc import MutableMapping
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dl_lib.layers.geometry import ConvGeometry, PaddingMode, Size, check_maps, make_geometry

__all__ = ["ConvAWS2d", "StandardizedConv2d", "scale_and_shift"]

EPSILON = 1e-5


class StandardizedConv2d(nn.Module, ABC):
    """Holds a kernel W and what standardises it: gamma * (W - mean) / sqrt(var + 1e-5) + beta, filter by filter.

    The variance is the unbiased one. gamma and beta are buffers, set where a plain kernel comes in, at construction or
    from a file, so that the standardised kernel is that kernel; what training changes is its direction.

    State dict: `weight`, `bias`, `weight_gamma` and `weight_beta` (O, 1, 1, 1), as mmcv's. A file that holds `weight`
    without the two is one of a plain convolution: they are computed from it.

    Args:
        geometry: of the convolution.
        bias: whether a bias is added.
        device: of parameters and buffers.
        dtype: of parameters and buffers.

    Raises:
        ValueError: for filters of a single weight, which has no variance.
    """

    weight_gamma: Tensor
    weight_beta: Tensor

    def __init__(
        self,
        geometry: ConvGeometry,
        *,
        bias: bool,
        device: torch.device | str | None,
        dtype: torch.dtype | None,
    ) -> None:
        super().__init__()
        if math.prod(geometry.kernel_shape[1:]) < 2:
            raise ValueError(f"a filter of a single weight cannot be standardised. Received: {geometry}")
        self.geometry = geometry
        out_channels = geometry.out_channels
        self.weight = nn.Parameter(torch.empty(geometry.kernel_shape, device=device, dtype=dtype))
        self.bias = nn.Parameter(torch.empty(out_channels, device=device, dtype=dtype)) if bias else None
        for name in ("weight_gamma", "weight_beta"):
            self.register_buffer(name, torch.empty(out_channels, 1, 1, 1, device=device, dtype=dtype))

    def reset_parameters(self) -> None:
        """Draws kernel and bias as `nn.Conv2d` does."""
        nn.init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        if self.bias is not None:
            bound = 1 / math.sqrt(math.prod(self.weight.shape[1:]))
            nn.init.uniform_(self.bias, -bound, bound)
        gamma, beta = scale_and_shift(self.weight.detach())
        self.weight_gamma.copy_(gamma)
        self.weight_beta.copy_(beta)

    def standardized_weight(self) -> Tensor:
        """The kernel that is convolved with, in the type of `weight`; computed in float32 at least."""
        # A group norm with each filter for a group does all of it at once, but divides by n where we divide by n - 1.
        numbers = math.prod(self.weight.shape[1:])
        share = (numbers - 1) / numbers
        dtype = _precise(self.weight.dtype)
        standardized = F.group_norm(
            self.weight.to(dtype).flatten(1).unsqueeze(0),
            num_groups=self.weight.shape[0],
            weight=self.weight_gamma.to(dtype).flatten() * math.sqrt(share),
            bias=self.weight_beta.to(dtype).flatten(),
            eps=EPSILON * share,
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
    """The gamma and beta that give a kernel back, in float32 at least."""
    variance, mean = torch.var_mean(weight.to(_precise(weight.dtype)), dim=(1, 2, 3), keepdim=True)
    return torch.sqrt(variance + EPSILON), mean


def _precise(dtype: torch.dtype) -> torch.dtype:
    return torch.promote_types(dtype, torch.float32)


class ConvAWS2d(StandardizedConv2d):
    """Takes the place of `nn.Conv2d`, starts as one, and loads the weights of one without a change of the output.

    Args:
        in_channels, …, dtype: as of `nn.Conv2d`.
    """

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
        """Maps (B, O, H', W') of maps (B, C, H, W)."""
        check_maps(x, channels=self.geometry.in_channels)
        return self.geometry.conv(x, self.standardized_weight(), self.bias)
