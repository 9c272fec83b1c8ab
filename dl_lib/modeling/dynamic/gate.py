"""Conditional gates of a cell (arXiv 2003.10401, equations 4 and 5) and the activations compared with them."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dl_lib.layers import conv2d, conv_norm_act
from dl_lib.layers.feature_maps import without_autocast

__all__ = ["GATE_KINDS", "SMALL_GATE_SHRINK", "Gate", "HardGate", "SigmoidGate", "SoftGate", "SoftmaxGate"]

SMALL_GATE_SHRINK = 4  # the small gate resizes its input to a quarter of each side


class Gate(nn.Module, ABC):
    """Gate with one value in [0, 1] per image and outgoing edge.

    Logits: 1×1 convolution with norm and ReLU, global mean, 1×1 convolution.

    Args:
        channels: Channels of the cell's input.
        num_edges: Outgoing edges of the cell.
        norm: Name of the norm.
        init_bias: Initial bias of the last convolution (`GATE_INIT_BIAS`).
        small: Resize the input bilinearly by 0.25 first (`SMALL_GATE`).

    Attributes:
        threshold: Gates whose activation is at or below it are closed, in [0, 1); not part of the state dict.
    """

    threshold = 0.0
    can_close: ClassVar[bool] = True  # whether a value can be 0 with the default threshold

    def __init__(self, channels: int, num_edges: int, *, norm: str, init_bias: float, small: bool = False) -> None:
        super().__init__()
        self.small = small
        self.reduce = conv_norm_act(channels, channels // 2, norm=norm)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.predict = conv2d(channels // 2, num_edges, bias=True)
        assert self.predict.bias is not None
        nn.init.constant_(self.predict.bias, init_bias)

    def forward(self, x: Tensor) -> Tensor:
        """Return gate values (B, num_edges) for feature maps (B, channels, H, W).

        After global pooling, computation uses the dtype of the parameters even under autocast, because costs are
        computed from the gate values.
        """
        if self.small:
            x = _shrink(x)
        pooled = self.pool(self.reduce(x))
        with without_autocast(x):
            return self.values(self.predict(pooled.to(self.predict.weight.dtype)).flatten(1))

    def values(self, logits: Tensor) -> Tensor:
        """Return the gate values for logits (B, num_edges): activations above the threshold, 0 elsewhere."""
        return F.threshold(self.activation(logits), self.threshold, 0.0)

    @abstractmethod
    def activation(self, logits: Tensor) -> Tensor:
        """Return the activations, at most 1, for logits (B, num_edges)."""


class SoftGate(Gate):
    """Gate max(0, tanh(logit)) in [0, 1), as published."""

    def activation(self, logits: Tensor) -> Tensor:
        return torch.tanh(logits)


class HardGate(Gate):
    """Gate that is 1 where the sigmoid of its logit is above the threshold, by default a positive logit; 0 elsewhere.

    Gradients are those of the sigmoid (straight-through estimator, arXiv 1308.3432).
    """

    threshold = 0.5

    def values(self, logits: Tensor) -> Tensor:
        relaxed = self.activation(logits)
        return (logits > _logit(self.threshold)).to(logits.dtype) + (relaxed - relaxed.detach())

    def activation(self, logits: Tensor) -> Tensor:
        return torch.sigmoid(logits)


class SigmoidGate(Gate):
    """Gate sigmoid(logit) in (0, 1), which stays open without a threshold."""

    can_close = False

    def activation(self, logits: Tensor) -> Tensor:
        return torch.sigmoid(logits)


class SoftmaxGate(Gate):
    """Gates softmax(logits) over the edges of a cell, which sum to 1 and stay open without a threshold."""

    can_close = False

    def activation(self, logits: Tensor) -> Tensor:
        return torch.softmax(logits, dim=-1)


GATE_KINDS: dict[str, type[Gate]] = {"soft": SoftGate, "hard": HardGate, "sigmoid": SigmoidGate, "softmax": SoftmaxGate}


def _logit(ratio: float) -> float:
    """Return the logit whose sigmoid is `ratio`, exact where the sigmoid is rounded."""
    return -math.log(1 / ratio - 1) if ratio else -math.inf


def _shrink(x: Tensor) -> Tensor:
    """Resize bilinearly by 0.25 without antialiasing: mean of the central 2×2 of each 4×4 block, sides rounded down."""
    rows, columns = (side - side % SMALL_GATE_SHRINK for side in x.shape[-2:])
    top, bottom = x[..., 1:rows:4, :columns], x[..., 2:rows:4, :columns]
    return 0.25 * (top[..., 1::4] + top[..., 2::4] + bottom[..., 1::4] + bottom[..., 2::4])
