"""CondConv: a convolution whose kernel is a sum of experts, weighted image by image.

Source: arXiv 1904.04971, section 3. What the mixture is convolved by: see `kernel_mixing`.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn

from dl_lib.layers.feature_maps import global_mean, without_autocast
from dl_lib.layers.geometry import PaddingMode, Size, make_geometry
from dl_lib.layers.kernel_mixing import Implementation
from dl_lib.layers.mixed_conv import MixedConv2d

__all__ = ["CondConv2d", "ExpertRouting"]


class ExpertRouting(nn.Module):
    """sigmoid(R mean(x) + r0): a weight in (0, 1) for each image and expert; those of an image have no fixed sum.

    Computed in the type of its parameters, under autocast too. Starts from Glorot's uniform initialisation (as the
    paper's TensorFlow code) and r0 = 0: near 0.5 for every expert.

    Args:
        in_channels: channels of the maps.
        num_experts: K.
        device: of the parameters.
        dtype: of the parameters.
    """

    def __init__(
        self,
        in_channels: int,
        num_experts: int,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.fc = nn.Linear(in_channels, num_experts, device=device, dtype=dtype)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        nn.init.xavier_uniform_(self.fc.weight)
        nn.init.zeros_(self.fc.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Weights (B, K) for maps (B, C, H, W)."""
        with without_autocast(x):
            return torch.sigmoid(self.fc(global_mean(x, dtype=self.fc.weight.dtype)))


class CondConv2d(MixedConv2d):
    """Takes the place of `nn.Conv2d`; each expert starts as one of those would.

    Experts' biases are mixed with the same weights as their kernels. At the start the mixed kernel has K / 4 times the
    variance of an expert's: where K is not 4, a norm should follow.

    State dict: `weight`, `bias`, `_routing_fn.fc.weight` (K, C) and `_routing_fn.fc.bias` (K,), the names that PyTorch
    versions of this layer use. timm's layer does not route itself: it is read with `own_routing=False`, its `weight`
    (K, -1) as it is; `routing_fn.{weight,bias}` of timm's blocks are `fc.{weight,bias}` of an `ExpertRouting`.

    Args:
        in_channels, …, dtype: as of `nn.Conv2d`.
        num_experts: K.
        own_routing: whether the layer can route; otherwise it takes weights from outside with each call.
        implementation: see `kernel_mixing.mixed_conv2d`.
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
        *,
        num_experts: int = 4,
        own_routing: bool = True,
        implementation: Implementation = "auto",
    ) -> None:
        super().__init__(
            make_geometry(in_channels, out_channels, kernel_size, stride, padding, dilation, groups, padding_mode),
            num_kernels=num_experts,
            bias=bias,
            implementation=implementation,
            device=device,
            dtype=dtype,
        )
        self._routing_fn = ExpertRouting(in_channels, num_experts, device=device, dtype=dtype) if own_routing else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        self._reset_kernels(slope=math.sqrt(5))
        if self.bias is not None:
            bound = 1 / math.sqrt(math.prod(self.geometry.kernel_shape[1:]))
            nn.init.uniform_(self.bias, -bound, bound)
        if self._routing_fn is not None:
            self._routing_fn.reset_parameters()

    def forward(self, x: Tensor, routing: Tensor | None = None) -> Tensor:
        """Maps (B, O, H', W').

        Args:
            x: (B, C, H, W).
            routing: (B, K) weights of the experts; None has the layer decide.

        Raises:
            ValueError: without a routing from anywhere, or if shapes do not fit.
        """
        return self._mixed_conv(x, routing, weigh=self._routing_fn)
