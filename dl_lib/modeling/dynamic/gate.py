"""Soft conditional gate of a cell (arXiv 2003.10401, equations 4 and 5)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dl_lib.layers import conv2d, conv_norm_act
from dl_lib.layers.feature_maps import without_autocast

__all__ = ["SMALL_GATE_SHRINK", "SoftGate"]

SMALL_GATE_SHRINK = 4  # the small gate resizes its input to a quarter of each side


class SoftGate(nn.Module):
    """Gate max(0, tanh(g(x))) with one value in [0, 1) per image and outgoing edge.

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
            logits = self.predict(pooled.to(self.predict.weight.dtype))
            return torch.relu(torch.tanh(logits.flatten(1)))


def _shrink(x: Tensor) -> Tensor:
    """Resize bilinearly by 0.25 without antialiasing: mean of the central 2×2 of each 4×4 block, sides rounded down."""
    rows, columns = (side - side % SMALL_GATE_SHRINK for side in x.shape[-2:])
    top, bottom = x[..., 1:rows:4, :columns], x[..., 2:rows:4, :columns]
    return 0.25 * (top[..., 1::4] + top[..., 2::4] + bottom[..., 1::4] + bottom[..., 2::4])
