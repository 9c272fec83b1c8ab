"""SPConv: split-based convolution ("Split to Be Slim", arXiv 2006.12085).

A full convolution processes some of the channels, a 1×1 convolution the others; the results are blended per channel.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dl_lib.layers.feature_maps import global_mean
from dl_lib.layers.geometry import PaddingMode, Size, check_input, make_geometry
from dl_lib.layers.norm import make_norm

__all__ = ["SPConv2d"]


class SPConv2d(nn.Module):
    """Drop-in replacement for `nn.Conv2d` with two branches a and b, blended as w * a + (1 - w) * b.

    The *representative* channels come first: branch a is the norm of the sum of their grouped convolution and their 1×1
    convolution. Branch b is the norm of a 1×1 convolution of the remaining, *redundant* channels. w is the softmax over
    the global means of a and b, per channel. With a stride, the input of both 1×1 convolutions is average-pooled; the
    last window is smaller if the stride does not divide the size. The number of representative channels is
    int(alpha * C), rounded down to a multiple of `groups`, and at least `groups`.

    State dict: `gwc`, `pwc`, `conv1x1`, `bn1` and `bn2`, as in the public PyTorch implementation. Load its files with
    `bias=True`: its `conv1x1` has a bias, which the following norm cancels.

    Args:
        in_channels: See `nn.Conv2d`, like all positional arguments, except that `groups` applies to the representative
            channels only and is 2 by default, as in the paper. The padding must preserve the size at stride 1 on both
            axes: 2 * padding = dilation * (kernel_size - 1).
        alpha: Fraction of representative channels, between 0 and 1.
        norm: Name of the norm, see `make_norm`.

    Raises:
        ValueError: If the padding does not preserve the size, or if a branch would have no channels.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size,
        stride: Size = 1,
        padding: Size | Literal["same", "valid"] = 0,
        dilation: Size = 1,
        groups: int = 2,
        bias: bool = False,
        padding_mode: PaddingMode = "zeros",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        alpha: float = 0.5,
        norm: str = "BN",
    ) -> None:
        super().__init__()
        if not 0 < alpha < 1 or not 0 < groups < in_channels:
            raise ValueError(
                "alpha must be between 0 and 1, and groups between 1 and in_channels - 1. "
                f"Received: alpha={alpha}, in_channels={in_channels}, groups={groups}"
            )
        representative = max(groups, int(alpha * in_channels) // groups * groups)
        geometry = make_geometry(
            representative, out_channels, kernel_size, stride, padding, dilation, groups, padding_mode
        )
        geometry.require_same_size()
        self.geometry = geometry
        self.gwc = nn.Conv2d(
            representative,
            out_channels,
            kernel_size,
            stride,
            padding,
            dilation,
            groups,
            bias=False,
            padding_mode=padding_mode,
            device=device,
            dtype=dtype,
        )
        self.pwc = nn.Conv2d(representative, out_channels, 1, bias=False, device=device, dtype=dtype)
        self.conv1x1 = nn.Conv2d(in_channels - representative, out_channels, 1, bias=bias, device=device, dtype=dtype)
        self.bn1 = make_norm(norm, out_channels).to(device=device, dtype=dtype)
        self.bn2 = make_norm(norm, out_channels).to(device=device, dtype=dtype)

    def forward(self, x: Tensor) -> Tensor:
        """Return feature maps (B, O, ceil(H / stride), ceil(W / stride)) for feature maps (B, C, H, W)."""
        splits = (self.gwc.in_channels, self.conv1x1.in_channels)
        check_input(x, channels=sum(splits))
        representative = x[:, : splits[0]]
        stride = self.geometry.stride
        pooled_x = x if stride == (1, 1) else F.avg_pool2d(x, stride, ceil_mode=True)
        pooled, redundant = pooled_x.split(splits, dim=1)
        a = self.bn1(self.geometry.conv(representative, self.gwc.weight, None) + self.pwc(pooled))
        b = self.bn2(self.conv1x1(redundant))
        dtype = torch.promote_types(a.dtype, torch.float32)
        w = torch.sigmoid(global_mean(a, dtype=dtype) - global_mean(b, dtype=dtype))  # softmax over two values
        return torch.lerp(b, a, w[:, :, None, None].to(a.dtype))
