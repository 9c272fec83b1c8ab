"""The soft conditional gate of a cell: arXiv 2003.10401, equations 4 and 5."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dl_lib.layers import conv2d, conv_norm_act
from dl_lib.layers.feature_maps import without_autocast

__all__ = ["SMALL_GATE_SHRINK", "SoftGate"]

SMALL_GATE_SHRINK = 4  # the small gate looks at a quarter of the sides


class SoftGate(nn.Module):
    """One value max(0, tanh(g(x))) in [0, 1) for each image and each way out of a cell.

    Args:
        channels: channels of the cell's input.
        num_edges: ways out of the cell.
        norm: name of the norm.
        init_bias: bias that the last convolution starts from (`GATE_INIT_BIAS`).
        small: look at the input resized bilinearly by 0.25 (`SMALL_GATE`).
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
        """Gate values (B, num_edges) for x (B, channels, H, W).

        From the pooled map on in the type of the parameters, under autocast too: costs are computed from the values.
        """
        if self.small:
            x = _shrink(x)
        pooled = self.pool(self.reduce(x))
        with without_autocast(x):
            logits = self.predict(pooled.to(self.predict.weight.dtype))
            return torch.relu(torch.tanh(logits.flatten(1)))


def _shrink(x: Tensor) -> Tensor:
    """Bilinear resize by 0.25 (not antialiased): the mean of the centre 2x2 of each 4x4 block, sides rounded down."""
    rows, columns = (side - side % SMALL_GATE_SHRINK for side in x.shape[-2:])
    top, bottom = x[..., 1:rows:4, :columns], x[..., 2:rows:4, :columns]
    return 0.25 * (top[..., 1::4] + top[..., 2::4] + bottom[..., 1::4] + bottom[..., 2::4])
