"""Dynamic convolution: a convolution whose kernel is a mean of K kernels, weighted by attention image by image.

Source: arXiv 1912.03458, temperature and its schedule included. What the mixture is convolved by: see `kernel_mixing`.
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
    """The softmax's temperature, which falls linearly to 1.

    Args:
        step_rate: share of the training that is done, in [0, 1].
        anneal_rate: share of it after which the temperature is 1, in (0, 1]; the paper's 10 epochs are 0.03 to 0.1.
        initial: temperature at the start, at least 1.

    Raises:
        ValueError: for an `anneal_rate` that is not in (0, 1].
    """
    if not 0 < anneal_rate <= 1:
        raise ValueError(f"the temperature falls during a share of the training. Received: anneal_rate={anneal_rate}")
    return FINAL_TEMPERATURE + max(0.0, (initial - FINAL_TEMPERATURE) * (anneal_rate - step_rate) / anneal_rate)


class KernelAttention(nn.Module):
    """softmax(fc2 relu(fc1 mean(x)) / temperature): weights of the kernels that sum up to 1 for each image.

    Computed in the type of its parameters, under autocast too. The temperature is a buffer in the state dict, so that a
    network evaluates as it was trained; `anneal` is to be called in training.

    Released attentions are read by the names of two PyTorch versions: `fc1`, `fc2` with weights of shape (., ., 1, 1),
    made with `hidden_channels=int(0.25 * C) + 1` (K where C is 3) and no `hidden_bias`; and `to_scores.0`,
    `to_scores.2` with `hidden_channels=max(1, C // 4)` and `hidden_bias`. Neither holds the temperature: it is then
    taken for 1, where both schedules end.

    Args:
        in_channels: C.
        num_kernels: K.
        reduction: `fc1` has max(1, C // reduction) outputs.
        hidden_channels: outputs of `fc1`, whatever the reduction is.
        hidden_bias: whether `fc1` has a bias.
        temperature: at the start of the training.
        device: of the parameters.
        dtype: of the parameters.
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
            raise ValueError(f"reduction is a whole number from 1. Received: reduction={reduction}")
        if temperature < FINAL_TEMPERATURE:
            raise ValueError(f"a temperature falls to 1 from at least 1. Received: temperature={temperature}")
        hidden = max(1, in_channels // reduction) if hidden_channels is None else hidden_channels
        self.initial_temperature = temperature
        self.fc1 = nn.Linear(in_channels, hidden, bias=hidden_bias, device=device, dtype=dtype)
        self.fc2 = nn.Linear(hidden, num_kernels, device=device, dtype=dtype)
        self.register_buffer("temperature", torch.empty((), device=device, dtype=dtype))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        for layer in (self.fc1, self.fc2):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        self.temperature.fill_(self.initial_temperature)

    def anneal(self, step_rate: float, *, anneal_rate: float) -> None:
        """Sets the temperature of this moment of the training; see `annealed_temperature`."""
        tau = annealed_temperature(step_rate, anneal_rate=anneal_rate, initial=self.initial_temperature)
        self.temperature.fill_(tau)

    def forward(self, x: Tensor) -> Tensor:
        """Weights (B, K) for maps (B, C, H, W)."""
        with without_autocast(x):
            hidden = torch.relu(self.fc1(global_mean(x, dtype=self.fc1.weight.dtype)))
            return torch.softmax(self.fc2(hidden) / self.temperature, dim=1)

    def _load_from_state_dict(
        self, state_dict: MutableMapping[str, Any], prefix: str, *arguments: Any, **options: Any
    ) -> None:
        for theirs, ours in (("to_scores.0", "fc1"), ("to_scores.2", "fc2")):
            for kind in ("weight", "bias"):
                if f"{prefix}{theirs}.{kind}" in state_dict:
                    state_dict[f"{prefix}{ours}.{kind}"] = state_dict.pop(f"{prefix}{theirs}.{kind}")
        for name in (f"{prefix}fc1.weight", f"{prefix}fc2.weight"):
            if name in state_dict and state_dict[name].shape[2:] == (1, 1):
                state_dict[name] = state_dict[name].flatten(1)
        if f"{prefix}fc1.weight" in state_dict:
            final = state_dict[f"{prefix}fc1.weight"].new_full((), FINAL_TEMPERATURE)
            state_dict.setdefault(f"{prefix}temperature", final)
        super()._load_from_state_dict(state_dict, prefix, *arguments, **options)


class DynamicConv2d(MixedConv2d):
    """Takes the place of `nn.Conv2d`; kernels start from He's uniform initialisation by fan-in, biases from 0.

    Kernels' biases are mixed with the same weights. While the attention is flat, the mixed kernel has 1 / K of a
    kernel's variance: a norm should follow.

    State dict: `weight`, `bias` and `attention.*`; `kernels_weights` and `kernels_bias` are read as the first two. For
    released weights put an attention of their shape in the place of the layer's own, as `KernelAttention` says:
    `layer.attention = KernelAttention(64, 4, hidden_channels=17)`.

    Args:
        in_channels, …, dtype: as of `nn.Conv2d`.
        num_kernels: K.
        reduction: of the channels inside the attention.
        temperature: of its softmax, at the start of the training.
        own_attention: whether the layer can attend; otherwise it takes weights from outside with each call.
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
        self._reset_kernels(slope=0.0)
        if self.bias is not None:
            nn.init.zeros_(self.bias)
        if self.attention is not None:
            self.attention.reset_parameters()

    def forward(self, x: Tensor, attention: Tensor | None = None) -> Tensor:
        """Maps (B, O, H', W').

        Args:
            x: (B, C, H, W).
            attention: (B, K) weights of the kernels; None has the layer decide.

        Raises:
            ValueError: without an attention from anywhere, or if shapes do not fit.
        """
        return self._mixed_conv(x, attention, weigh=self.attention)

    def _load_from_state_dict(
        self, state_dict: MutableMapping[str, Any], prefix: str, *arguments: Any, **options: Any
    ) -> None:
        for theirs, ours in (("kernels_weights", "weight"), ("kernels_bias", "bias")):
            if f"{prefix}{theirs}" in state_dict:
                state_dict[f"{prefix}{ours}"] = state_dict.pop(f"{prefix}{theirs}")
        super()._load_from_state_dict(state_dict, prefix, *arguments, **options)
