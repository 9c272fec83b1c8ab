"""Conditional gates of a cell (arXiv 2003.10401, equations 4 and 5), soft or hard."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from dl_lib.layers import conv2d, conv_norm_act
from dl_lib.layers.feature_maps import without_autocast

__all__ = ["GATE_KINDS", "SMALL_GATE_SHRINK", "Gate", "HardGate", "SoftGate"]

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
    """

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

    @abstractmethod
    def values(self, logits: Tensor) -> Tensor:
        """Return the gate values for logits of any shape."""


class SoftGate(Gate):
    """Gate max(0, tanh(logit)) in [0, 1), as published."""

    def values(self, logits: Tensor) -> Tensor:
        return torch.relu(torch.tanh(logits))


class HardGate(Gate):
    """Gate that is 1 where its logit is positive and 0 elsewhere.

    Gradients are those of the sigmoid of the logit (straight-through estimator, arXiv 1308.3432).
    """

    def values(self, logits: Tensor) -> Tensor:
        relaxed = torch.sigmoid(logits)
        return (logits > 0).to(logits.dtype) + (relaxed - relaxed.detach())


GATE_KINDS: dict[str, type[Gate]] = {"soft": SoftGate, "hard": HardGate}


def _shrink(x: Tensor) -> Tensor:
    """Resize bilinearly by 0.25 without antialiasing: mean of the central 2×2 of each 4×4 block, sides rounded down."""
    rows, columns = (side - side % SMALL_GATE_SHRINK for side in x.shape[-2:])
    top, bottom = x[..., 1:rows:4, :columns], x[..., 2:rows:4, :columns]
    return 0.25 * (top[..., 1::4] + top[..., 2::4] + bottom[..., 1::4] + bottom[..., 2::4])
