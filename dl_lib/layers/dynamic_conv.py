"""Dynamic convolution: attention over convolution kernels, with temperature annealing (arXiv 1912.03458).

The kernel is a per-image weighted mean of K kernels; `kernel_mixing` computes the convolution.
"""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any, Literal

import torch
from torch import Tensor, nn

from dl_lib.layers.feature_maps import global_mean, without_autocast
from dl_lib.layers.geometry import PaddingMode, Size, make_geometry
from dl_lib.layers.kernel_mixing import Implementation
from dl_lib.layers.mixed_conv import MixedConv2d

__all__ = ["DynamicConv2d", "KernelAttention", "annealed_temperature"]

INITIAL_TEMPERATURE, FINAL_TEMPERATURE = 30.0, 1.0
REDUCTION = 4


def annealed_temperature(step_rate: float, *, anneal_rate: float, initial: float = INITIAL_TEMPERATURE) -> float:
    """Return the softmax temperature, which falls linearly to 1.

    Args:
        step_rate: Training progress in [0, 1].
        anneal_rate: Fraction of training after which the temperature is 1, in (0, 1]; the paper's 10 epochs are 0.03
            to 0.1.
        initial: Initial temperature, at least 1.

    Raises:
        ValueError: If `anneal_rate` is not in (0, 1].
    """
    if not 0 < anneal_rate <= 1:
        raise ValueError(f"anneal_rate must be in (0, 1]. Received: anneal_rate={anneal_rate}")
    return FINAL_TEMPERATURE + max(0.0, (initial - FINAL_TEMPERATURE) * (anneal_rate - step_rate) / anneal_rate)


class KernelAttention(nn.Module):
    """Kernel attention softmax(fc2(relu(fc1(mean(x)))) / temperature), whose weights sum to 1 for each image.

    It is computed in the dtype of its parameters, even under autocast. The temperature is a buffer in the state dict,
    so that a checkpoint evaluates as it was trained; training must call `anneal`.

    Weights of two public PyTorch implementations load: `fc1` and `fc2` with weights of shape (., ., 1, 1), into
    `hidden_channels=int(0.25 * C) + 1` (K if C is 3) without `hidden_bias`; and `to_scores.0` and `to_scores.2`, into
    `hidden_channels=max(1, C // 4)` with `hidden_bias`. Neither contains the temperature, which becomes 1, the final
    value of both schedules.

    Args:
        in_channels: Input channels C.
        num_kernels: Number of kernels K.
        reduction: `fc1` has max(1, C // reduction) outputs.
        hidden_channels: Outputs of `fc1`; overrides `reduction`.
        hidden_bias: Whether `fc1` has a bias.
        temperature: Initial temperature.
        device: Device of the parameters.
        dtype: Dtype of the parameters.

    Raises:
        ValueError: If `reduction` or `temperature` is below 1.
    """

    temperature: Tensor

    def __init__(
        self,
        in_channels: int,
        num_kernels: int,
        *,
        reduction: int = REDUCTION,
        hidden_channels: int | None = None,
        hidden_bias: bool = False,
        temperature: float = INITIAL_TEMPERATURE,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if reduction < 1:
            raise ValueError(f"reduction must be at least 1. Received: reduction={reduction}")
        if temperature < FINAL_TEMPERATURE:
            raise ValueError(f"temperature must be at least 1, its final value. Received: temperature={temperature}")
        hidden = max(1, in_channels // reduction) if hidden_channels is None else hidden_channels
        self.initial_temperature = temperature
        self.fc1 = nn.Linear(in_channels, hidden, bias=hidden_bias, device=device, dtype=dtype)
        self.fc2 = nn.Linear(hidden, num_kernels, device=device, dtype=dtype)
        self.register_buffer("temperature", torch.empty((), device=device, dtype=dtype))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Reinitialize the parameters and the temperature."""
        for layer in (self.fc1, self.fc2):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        self.temperature.fill_(self.initial_temperature)

    def anneal(self, step_rate: float, *, anneal_rate: float) -> None:
        """Set the temperature for this training progress; see `annealed_temperature`."""
        temperature = annealed_temperature(step_rate, anneal_rate=anneal_rate, initial=self.initial_temperature)
        self.temperature.fill_(temperature)

    def forward(self, x: Tensor) -> Tensor:
        """Return weights (B, K) for feature maps (B, C, H, W)."""
        with without_autocast(x):
            hidden = torch.relu(self.fc1(global_mean(x, dtype=self.fc1.weight.dtype)))
            return torch.softmax(self.fc2(hidden) / self.temperature, dim=1)

    def _load_from_state_dict(
        self, state_dict: MutableMapping[str, Any], prefix: str, *arguments: Any, **options: Any
    ) -> None:
        for published, own in (("to_scores.0", "fc1"), ("to_scores.2", "fc2")):
            for kind in ("weight", "bias"):
                if f"{prefix}{published}.{kind}" in state_dict:
                    state_dict[f"{prefix}{own}.{kind}"] = state_dict.pop(f"{prefix}{published}.{kind}")
        for name in (f"{prefix}fc1.weight", f"{prefix}fc2.weight"):
            if name in state_dict and state_dict[name].shape[2:] == (1, 1):
                state_dict[name] = state_dict[name].flatten(1)
        if f"{prefix}fc1.weight" in state_dict:
            final = state_dict[f"{prefix}fc1.weight"].new_full((), FINAL_TEMPERATURE)
            state_dict.setdefault(f"{prefix}temperature", final)
        super()._load_from_state_dict(state_dict, prefix, *arguments, **options)


class DynamicConv2d(MixedConv2d):
    """Drop-in replacement for `nn.Conv2d` with K kernels, He uniform initialization by fan-in, and zero biases.

    The kernels' biases are mixed with the same weights. While the attention is uniform, the mixed kernel has 1 / K of a
    kernel's variance; a norm should follow.

    State dict: `weight`, `bias` and `attention.*`; `kernels_weights` and `kernels_bias` load as the first two. To load
    released weights, replace the layer's attention with one of matching shape (see `KernelAttention`): `layer.attention
    = KernelAttention(64, 4, hidden_channels=17)`.

    Args:
        in_channels: See `nn.Conv2d`, like all positional arguments.
        num_kernels: Number of kernels K.
        reduction: Channel reduction inside the attention.
        temperature: Initial temperature of the attention's softmax.
        own_attention: Whether the layer computes its attention; otherwise pass the weights with each call.
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
        num_kernels: int = 4,
        reduction: int = REDUCTION,
        temperature: float = INITIAL_TEMPERATURE,
        own_attention: bool = True,
        implementation: Implementation = "auto",
    ) -> None:
        super().__init__(
            make_geometry(in_channels, out_channels, kernel_size, stride, padding, dilation, groups, padding_mode),
            num_kernels=num_kernels,
            bias=bias,
            implementation=implementation,
            device=device,
            dtype=dtype,
        )
        self.attention = (
            KernelAttention(
                in_channels, num_kernels, reduction=reduction, temperature=temperature, device=device, dtype=dtype
            )
            if own_attention
            else None
        )
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Reinitialize kernels and attention."""
        self._reset_kernels(slope=0.0)
        if self.bias is not None:
            nn.init.zeros_(self.bias)
        if self.attention is not None:
            self.attention.reset_parameters()

    def forward(self, x: Tensor, attention: Tensor | None = None) -> Tensor:
        """Return feature maps (B, O, H', W') for feature maps (B, C, H, W) and weights (B, K) of the kernels.

        None uses the layer's own attention.

        Raises:
            ValueError: If there are no weights, or if shapes do not match.
        """
        return self._mixed_conv(x, attention, weigh=self.attention)

    def _load_from_state_dict(
        self, state_dict: MutableMapping[str, Any], prefix: str, *arguments: Any, **options: Any
    ) -> None:
        for published, own in (("kernels_weights", "weight"), ("kernels_bias", "bias")):
            if f"{prefix}{published}" in state_dict:
                state_dict[f"{prefix}{own}"] = state_dict.pop(f"{prefix}{published}")
        super()._load_from_state_dict(state_dict, prefix, *arguments, **options)
