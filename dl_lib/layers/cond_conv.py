"""CondConv: conditionally parameterized convolution (arXiv 1904.04971, section 3).

The kernel is a per-image weighted sum of expert kernels; `kernel_mixing` computes the convolution.
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
    """Routing function sigmoid(R mean(x) + r0): a weight in (0, 1) for each image and expert, not normalized.

    It is computed in the dtype of its parameters, even under autocast. Initialization is Glorot uniform, as in the
    paper's TensorFlow code, and r0 = 0, so that the weights start near 0.5.

    Args:
        in_channels: Channels of the feature maps.
        num_experts: Number of experts K.
        device: Device of the parameters.
        dtype: Dtype of the parameters.
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
        """Reinitialize the parameters."""
        nn.init.xavier_uniform_(self.fc.weight)
        nn.init.zeros_(self.fc.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Return weights (B, K) for feature maps (B, C, H, W)."""
        with without_autocast(x):
            return torch.sigmoid(self.fc(global_mean(x, dtype=self.fc.weight.dtype)))


class CondConv2d(MixedConv2d):
    """Drop-in replacement for `nn.Conv2d` with K experts, each initialized like `nn.Conv2d`.

    The experts' biases are mixed with the same weights as their kernels. At initialization the mixed kernel has K / 4
    times the variance of an expert's kernel; unless K is 4, a norm should follow.

    State dict: `weight`, `bias`, `_routing_fn.fc.weight` (K, C) and `_routing_fn.fc.bias` (K,), as in public PyTorch
    implementations of this layer. timm's layer has no routing function: load it with `own_routing=False`, with `weight`
    (K, -1) unchanged; `routing_fn.{weight,bias}` of timm's blocks are `fc.{weight,bias}` of an `ExpertRouting`.

    Args:
        in_channels: See `nn.Conv2d`, like all positional arguments.
        num_experts: Number of experts K.
        own_routing: Whether the layer computes its routing weights; otherwise pass them with each call.
        implementation: See `kernel_mixing.mixed_conv2d`.
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
        """Reinitialize experts and routing."""
        self._reset_kernels(slope=math.sqrt(5))
        if self.bias is not None:
            bound = 1 / math.sqrt(math.prod(self.geometry.kernel_shape[1:]))
            nn.init.uniform_(self.bias, -bound, bound)
        if self._routing_fn is not None:
            self._routing_fn.reset_parameters()

    def forward(self, x: Tensor, routing: Tensor | None = None) -> Tensor:
        """Return feature maps (B, O, H', W') for feature maps (B, C, H, W) and routing weights (B, K) of the experts.

        None uses the layer's own routing function.

        Raises:
            ValueError: If there are no routing weights, or if shapes do not match.
        """
        return self._mixed_conv(x, routing, weigh=self._routing_fn)
