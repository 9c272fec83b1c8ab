"""SAC: switchable atrous convolution (DetectoRS, arXiv 2006.02334, section 4).

The same kernel at two dilations, blended per pixel by a switch. Local averaging and the switch's projection to one
channel are linear and commute, so that only one channel is averaged.
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
from dl_lib.layers.geometry import PaddingMode, Size, check_input, make_geometry

__all__ = ["LARGE_RATE", "SWITCH_WINDOW", "SAConv2d"]

SWITCH_WINDOW = 5  # side of the window whose mean is the switch's input
LARGE_RATE = 3  # ratio of the larger to the smaller dilation


class SAConv2d(StandardizedConv2d):
    """Drop-in replacement for `nn.Conv2d` that blends two dilations of one kernel between two global contexts.

    It computes S * conv(x, W) + (1 - S) * conv(x, W + dW, three times the dilation), with W standardized (see
    `StandardizedConv2d`) and the switch S per pixel. The pre-context adds a 1×1 convolution of the global mean to the
    input, the post-context to the output. At initialization S = 1 and dW and both contexts are 0, so that the layer is
    a plain convolution. The bias is added to both convolutions, whose weights sum to 1.

    State dict: as in mmcv. The layer of mmcv does not use its `bias`; load its files with `bias=False` and without that
    key. Load weights of a plain convolution with `strict=False`.

    Args:
        in_channels: See `nn.Conv2d`, like all positional arguments. The padding must preserve the size at stride 1 on
            both axes: 2 * padding = dilation * (kernel_size - 1).
        use_deform: Make both convolutions deformable (arXiv 1703.06211), with offsets from a convolution of the local
            mean.

    Raises:
        ValueError: If the padding does not preserve the size.
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
        self.geometry.require_same_size()
        self.weight_diff = nn.Parameter(torch.empty_like(self.weight))
        self.switch = nn.Conv2d(in_channels, 1, 1, device=device, dtype=dtype)
        self.pre_context = nn.Conv2d(in_channels, in_channels, 1, device=device, dtype=dtype)
        self.post_context = nn.Conv2d(out_channels, out_channels, 1, device=device, dtype=dtype)
        self.offset_s = self._offset_conv(device=device, dtype=dtype) if use_deform else None
        self.offset_l = self._offset_conv(device=device, dtype=dtype) if use_deform else None
        self.reset_parameters()

    def _offset_conv(self, *, device: torch.device | str | None, dtype: torch.dtype | None) -> nn.Conv2d:
        """Build the convolution that predicts an offset (dy, dx) for each kernel tap."""
        geometry = self.geometry
        channels = 2 * math.prod(geometry.kernel_size)
        return nn.Conv2d(
            geometry.in_channels, channels, 3, stride=geometry.stride, padding=1, device=device, dtype=dtype
        )

    def reset_parameters(self) -> None:
        """Reinitialize the layer as a plain convolution."""
        super().reset_parameters()
        nn.init.zeros_(self.weight_diff)
        for child in self.children():
            assert isinstance(child, nn.Conv2d) and child.bias is not None
            nn.init.zeros_(child.weight)
            nn.init.constant_(child.bias, 1.0 if child is self.switch else 0.0)

    def forward(self, x: Tensor) -> Tensor:
        """Return feature maps (B, O, H', W') for feature maps (B, C, H, W)."""
        check_input(x, channels=self.geometry.in_channels)
        x = x + self.pre_context(_global_mean_map(x))
        # Flattening restores contiguous strides: those of a one-channel tensor fit both memory formats, and pooling is
        # slow for what it takes for channels-last.
        one_channel = self.switch(x).flatten(0, 1).unsqueeze(1)
        switch = _local_mean(one_channel, stride=self.geometry.stride)
        weight = self.standardized_weight()
        local_mean = None if self.offset_s is None else _local_mean(x, stride=(1, 1))
        small = self._conv(x, weight, rate=1, offset=self.offset_s, local_mean=local_mean)
        large = self._conv(x, weight + self.weight_diff, rate=LARGE_RATE, offset=self.offset_l, local_mean=local_mean)
        y = torch.lerp(large, small, switch.to(small.dtype))
        return y + self.post_context(_global_mean_map(y))

    def _conv(
        self, x: Tensor, weight: Tensor, *, rate: int, offset: nn.Conv2d | None, local_mean: Tensor | None
    ) -> Tensor:
        if offset is None:
            return self.geometry.conv(x, weight, self.bias, rate=rate)
        geometry, channels_last = self.geometry, is_channels_last(x)
        rows, columns = geometry.dilation
        offsets = offset(local_mean)
        x, padding = geometry.pad(x, rate=rate)
        y = deform_conv2d(  # supports neither autocast nor channels-last on every device
            x.to(weight.dtype),
            offsets.to(weight.dtype),
            weight,
            self.bias,
            stride=geometry.stride,
            padding=padding,
            dilation=(rate * rows, rate * columns),
        ).to(offsets.dtype)
        return y.contiguous(memory_format=torch.channels_last) if channels_last else y


def _global_mean_map(x: Tensor) -> Tensor:
    """Return the global mean as feature maps (B, C, 1, 1)."""
    return global_mean(x, dtype=x.dtype)[:, :, None, None]


def _local_mean(x: Tensor, *, stride: tuple[int, int]) -> Tensor:
    """Return the mean over a window around each pixel, with reflect padding, or replicate if the input is too small."""
    padding = SWITCH_WINDOW // 2
    mode = "reflect" if min(x.shape[2:]) > padding else "replicate"
    return F.avg_pool2d(F.pad(x, [padding] * 4, mode=mode), SWITCH_WINDOW, stride)
