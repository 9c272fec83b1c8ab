"""SPConv: a full kernel for some of the channels, a 1×1 kernel for the others, and a weighing of the two results.

Source: Split to Be Slim, arXiv 2006.12085.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dl_lib.layers.feature_maps import global_mean
from dl_lib.layers.geometry import PaddingMode, Size, check_maps, make_geometry
from dl_lib.layers.norm import make_norm

__all__ = ["SPConv2d"]


class SPConv2d(nn.Module):
    """w * a + (1 - w) * b, with a and b as follows, and w by a softmax over their means, channel by channel.

    The first channels, the *representative* ones, go through a convolution in `groups` groups and a 1×1 convolution,
    whose sum is normalised to a; the *redundant* rest goes through a 1×1 convolution, normalised to b. At a stride both
    1×1 convolutions look at means of blocks; at the right and lower edges of maps that the stride does not divide,
    blocks are smaller. There are int(alpha * C) representative channels, rounded down to a multiple of `groups`, but
    `groups` of them at least.

    State dict: `gwc`, `pwc`, `conv1x1`, `bn1` and `bn2`, the names of the public PyTorch version, whose files are read
    with `bias=True`: it has a bias in `conv1x1`, in front of a norm that takes it away again.

    Args:
        in_channels, …, dtype: as of `nn.Conv2d`, except that `groups` is of the representative channels only, and 2 as
            in the paper; the margins must keep the size at stride 1, on both axes:
            2 * padding = dilation * (kernel_size - 1).
        alpha: share of representative channels, between 0 and 1.
        norm: name of the norm, see `layers.norm`.

    Raises:
        ValueError: for margins that do not keep the size, and where no channel is left for one of the parts.
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
                "alpha is between 0 and 1, and there are more channels than groups, of which each has one at least. "
                f"Received: alpha={alpha}, in_channels={in_channels}, groups={groups}"
            )
        representative = max(groups, int(alpha * in_channels) // groups * groups)
        geometry = make_geometry(
            representative, out_channels, kernel_size, stride, padding, dilation, groups, padding_mode
        )
        geometry.require_kept_size()
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
        """Maps (B, O, ceil(H / stride), ceil(W / stride)) of maps (B, C, H, W)."""
        parts = (self.gwc.in_channels, self.conv1x1.in_channels)
        check_maps(x, channels=sum(parts))
        representative = x[:, : parts[0]]
        stride = self.geometry.stride
        blocks = x if stride == (1, 1) else F.avg_pool2d(x, stride, ceil_mode=True)
        pooled, redundant = blocks.split(parts, dim=1)
        a = self.bn1(self.geometry.conv(representative, self.gwc.weight, None) + self.pwc(pooled))
        b = self.bn2(self.conv1x1(redundant))
        dtype = torch.promote_types(a.dtype, torch.float32)
        w = torch.sigmoid(global_mean(a, dtype=dtype) - global_mean(b, dtype=dtype))  # the softmax of two numbers
        return torch.lerp(b, a, w[:, :, None, None].to(a.dtype))
