"""Switchable atrous convolution: a kernel at two dilations, and a switch that weighs them pixel by pixel.

Source: DetectoRS, arXiv 2006.02334, section 4. Fast form: averaging and the switch's projection to one channel are
linear and commute, so that one channel is averaged instead of all.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import deform_conv2d

from dl_lib.layers.aws_conv import StandardizedConv2d
from dl_lib.layers.feature_maps import global_mean, is_channels_last
from dl_lib.layers.geometry import PaddingMode, Size, check_maps, make_geometry

__all__ = ["LARGE_RATE", "SWITCH_WINDOW", "SAConv2d"]

SWITCH_WINDOW = 5  # side of the window whose mean the switch looks at
LARGE_RATE = 3  # the larger dilation, in multiples of the smaller


class SAConv2d(StandardizedConv2d):
    """S * conv(x, W) + (1 - S) * conv(x, W + dW at three times the dilation), between two global contexts.

    W is standardised (see `StandardizedConv2d`). Before, x gains a 1×1 convolution of its mean, and afterwards the
    output one of its own mean. At the start S = 1 and dW and both contexts are 0: the layer is a plain convolution.
    The bias is added to both convolutions: as the weights sum up to 1, once to the mixture.

    State dict: the names of mmcv's, whose `bias`, where it has one, is unused: its files are read with `bias=False` and
    without that key. Those of a plain convolution are read with `strict=False`.

    Args:
        in_channels, …, dtype: as of `nn.Conv2d`; the margins must keep the size at stride 1, on both axes:
            2 * padding = dilation * (kernel_size - 1).
        use_deform: both convolutions are deformable (arXiv 1703.06211), their offsets a convolution of the local mean.

    Raises:
        ValueError: for margins that do not keep the size.
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
        use_deform: bool = False,
    ) -> None:
        super().__init__(
            make_geometry(in_channels, out_channels, kernel_size, stride, padding, dilation, groups, padding_mode),
            bias=bias,
            device=device,
            dtype=dtype,
        )
        self.geometry.require_kept_size()
        self.weight_diff = nn.Parameter(torch.empty_like(self.weight))
        self.switch = nn.Conv2d(in_channels, 1, 1, device=device, dtype=dtype)
        self.pre_context = nn.Conv2d(in_channels, in_channels, 1, device=device, dtype=dtype)
        self.post_context = nn.Conv2d(out_channels, out_channels, 1, device=device, dtype=dtype)
        self.offset_s = self._offset_conv(device=device, dtype=dtype) if use_deform else None
        self.offset_l = self._offset_conv(device=device, dtype=dtype) if use_deform else None
        self.reset_parameters()

    def _offset_conv(self, *, device: torch.device | str | None, dtype: torch.dtype | None) -> nn.Conv2d:
        """Two numbers (dy, dx) for each tap of the kernel."""
        geometry = self.geometry
        channels = 2 * math.prod(geometry.kernel_size)
        return nn.Conv2d(
            geometry.in_channels, channels, 3, stride=geometry.stride, padding=1, device=device, dtype=dtype
        )

    def reset_parameters(self) -> None:
        super().reset_parameters()
        nn.init.zeros_(self.weight_diff)
        for child in self.children():
            assert isinstance(child, nn.Conv2d) and child.bias is not None
            nn.init.zeros_(child.weight)
            nn.init.constant_(child.bias, 1.0 if child is self.switch else 0.0)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, O, H', W') of maps (B, C, H, W)."""
        check_maps(x, channels=self.geometry.in_channels)
        x = x + self.pre_context(_mean_map(x))
        # Of one channel, both memory orders are one, and pooling is slow in what it takes for channels-last.
        one_channel = self.switch(x).flatten(0, 1).unsqueeze(1)
        switch = _local_mean(one_channel, stride=self.geometry.stride)
        weight = self.standardized_weight()
        local_mean = None if self.offset_s is None else _local_mean(x, stride=(1, 1))
        small = self._conv(x, weight, rate=1, offset=self.offset_s, local_mean=local_mean)
        large = self._conv(x, weight + self.weight_diff, rate=LARGE_RATE, offset=self.offset_l, local_mean=local_mean)
        y = torch.lerp(large, small, switch.to(small.dtype))
        return y + self.post_context(_mean_map(y))

    def _conv(
        self, x: Tensor, weight: Tensor, *, rate: int, offset: nn.Conv2d | None, local_mean: Tensor | None
    ) -> Tensor:
        if offset is None:
            return self.geometry.conv(x, weight, self.bias, rate=rate)
        geometry, channels_last = self.geometry, is_channels_last(x)
        rows, columns = geometry.dilation
        shifts = offset(local_mean)
        x, padding = geometry.pad(x, rate=rate)
        y = deform_conv2d(  # knows neither autocast nor other memory orders on every device
            x.to(weight.dtype),
            shifts.to(weight.dtype),
            weight,
            self.bias,
            stride=geometry.stride,
            padding=padding,
            dilation=(rate * rows, rate * columns),
        ).to(shifts.dtype)
        return y.contiguous(memory_format=torch.channels_last) if channels_last else y


def _mean_map(x: Tensor) -> Tensor:
    """Means over the pixels, as maps (B, C, 1, 1)."""
    return global_mean(x, dtype=x.dtype)[:, :, None, None]


def _local_mean(x: Tensor, *, stride: tuple[int, int]) -> Tensor:
    """Mean over a window around each pixel; beyond the edge the map is reflected or, if too small, repeated."""
    margin = SWITCH_WINDOW // 2
    mode = "reflect" if min(x.shape[2:]) > margin else "replicate"
    return F.avg_pool2d(F.pad(x, [margin] * 4, mode=mode), SWITCH_WINDOW, stride)
