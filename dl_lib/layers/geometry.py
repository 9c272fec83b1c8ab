"""Validated hyperparameters of `nn.Conv2d`, shared by the convolution layers of this package."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

from dl_lib.layers.depthwise import conv2d_fast_depthwise, kernel_extent
from dl_lib.layers.feature_maps import is_channels_last
from dl_lib.utils.names import nearest_names

__all__ = ["ConvGeometry", "PaddingMode", "Size", "check_input", "make_geometry"]

PaddingMode = Literal["zeros", "reflect", "replicate", "circular"]
Size = int | tuple[int, int]  # one value for both axes, or (height, width)

_PADDING_MODES: tuple[PaddingMode, ...] = get_args(PaddingMode)


@dataclass(frozen=True)
class ConvGeometry:
    """Hyperparameters of a two-dimensional convolution; pairs are (height, width).

    Attributes:
        in_channels: Input channels.
        out_channels: Output channels.
        kernel_size: Rows and columns of the kernel.
        stride: Stride of the kernel.
        padding: Pixels added at the left, right, top and bottom, in the order of `torch.nn.functional.pad`.
        dilation: Spacing of the kernel taps.
        groups: Number of groups.
        padding_mode: Values of the added pixels.
    """

    in_channels: int
    out_channels: int
    kernel_size: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int, int, int]
    dilation: tuple[int, int]
    groups: int
    padding_mode: PaddingMode

    @property
    def kernel_shape(self) -> tuple[int, int, int, int]:
        """Shape of the weight: (out_channels, in_channels / groups, rows, columns)."""
        return (self.out_channels, self.in_channels // self.groups, *self.kernel_size)

    @property
    def is_pointwise(self) -> bool:
        """True for an ungrouped 1×1 convolution without padding."""
        return self.kernel_size == (1, 1) and self.groups == 1 and not any(self.padding)

    def require_same_size(self) -> None:
        """Raise ValueError unless the output has the input size, divided by the stride and rounded up."""
        left, right, top, bottom = self.padding
        if (top + bottom, left + right) != kernel_extent(self.kernel_size, self.dilation):
            raise ValueError(
                "padding must preserve the size at stride 1, 2 * padding = dilation * (kernel_size - 1), because the "
                f"branches of this layer are added. Received: {self}"
            )

    def pad(self, x: Tensor, *, rate: int = 1) -> tuple[Tensor, tuple[int, int]]:
        """Add the padding that `conv2d` does not support itself.

        torch refuses reflect and circular padding wider than the input; here they wrap repeatedly.

        Args:
            x: Feature maps (B, C, H, W).
            rate: Factor of the padding.

        Returns:
            The padded feature maps, and the remaining `padding` argument of `conv2d`.
        """
        left, right, top, bottom = (rate * pixels for pixels in self.padding)
        if self.padding_mode == "zeros" and left == right and top == bottom:
            return x, (top, left)
        exceeds_input = max(top, bottom) >= x.shape[2] or max(left, right) >= x.shape[3]
        if exceeds_input and self.padding_mode in ("reflect", "circular"):
            rows = _padded_positions(x.shape[2], top, bottom, mode=self.padding_mode, device=x.device)
            columns = _padded_positions(x.shape[3], left, right, mode=self.padding_mode, device=x.device)
            padded = x.index_select(2, rows).index_select(3, columns)
        else:
            mode = "constant" if self.padding_mode == "zeros" else self.padding_mode
            padded = F.pad(x, (left, right, top, bottom), mode=mode)
        order = torch.channels_last if is_channels_last(x) else torch.contiguous_format  # not every mode preserves it
        return padded.contiguous(memory_format=order), (0, 0)

    def conv(self, x: Tensor, weight: Tensor, bias: Tensor | None, *, rate: int = 1, images: int = 1) -> Tensor:
        """Convolve feature maps (B, C, H, W).

        Args:
            x: Feature maps.
            weight: Kernel of shape `kernel_shape`.
            bias: Bias (out_channels,) or None.
            rate: Factor of padding and dilation.
            images: Number of images stacked along the channels, a factor of channels and groups.
        """
        x, padding = self.pad(x, rate=rate)
        dilation = (rate * self.dilation[0], rate * self.dilation[1])
        return conv2d_fast_depthwise(
            x, weight, bias, stride=self.stride, padding=padding, dilation=dilation, groups=images * self.groups
        )

    def __str__(self) -> str:
        fields = [f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}"]
        if any(self.padding):
            fields.append(f"padding={self.padding}")
        if self.dilation != (1, 1):
            fields.append(f"dilation={self.dilation}")
        if self.groups != 1:
            fields.append(f"groups={self.groups}")
        if self.padding_mode != "zeros":
            fields.append(f"padding_mode={self.padding_mode!r}")
        return ", ".join(fields)


def check_input(x: Tensor, *, channels: int) -> None:
    """Raise ValueError unless `x` has shape (B, channels, H, W)."""
    if x.ndim != 4 or x.shape[1] != channels:
        raise ValueError(
            f"input must have shape (images, {channels}, height, width). Received: x.shape={tuple(x.shape)}"
        )


def make_geometry(
    in_channels: int,
    out_channels: int,
    kernel_size: Size,
    stride: Size,
    padding: Size | Literal["same", "valid"],
    dilation: Size,
    groups: int,
    padding_mode: PaddingMode,
) -> ConvGeometry:
    """Validate and normalize the arguments of `nn.Conv2d`.

    Raises:
        ValueError: If a value is below 1 (padding: below 0), `groups` does not divide the channels, padding is "same"
            with a stride, or a name does not exist.
    """
    for name, value in {"in_channels": in_channels, "out_channels": out_channels, "groups": groups}.items():
        if value < 1:
            raise ValueError(f"{name} must be a positive integer. Received: {name}={value!r}")
    for name, value in {"in_channels": in_channels, "out_channels": out_channels}.items():
        if value % groups:
            raise ValueError(f"{name} must be divisible by groups. Received: {name}={value}, groups={groups}")
    if padding_mode not in _PADDING_MODES:
        raise ValueError(
            f"padding_mode must be one that nn.Conv2d supports; {nearest_names(padding_mode, _PADDING_MODES)}. "
            f"Received: padding_mode={padding_mode!r}"
        )
    kernel, strides = _pair(kernel_size, name="kernel_size"), _pair(stride, name="stride")
    dilations = _pair(dilation, name="dilation")
    return ConvGeometry(
        in_channels=in_channels,
        out_channels=out_channels,
        kernel_size=kernel,
        stride=strides,
        padding=_padding_sides(padding, kernel=kernel, stride=strides, dilation=dilations),
        dilation=dilations,
        groups=groups,
        padding_mode=padding_mode,
    )


def _padded_positions(side: int, before: int, after: int, *, mode: PaddingMode, device: torch.device) -> Tensor:
    """Return the source index in 0..side - 1 of each position of a padded axis, for padding of any width."""
    positions = torch.arange(-before, side + after, device=device)
    if mode == "circular":
        return positions % side
    period = max(1, 2 * (side - 1))
    return torch.minimum(positions % period, period - positions % period)


def _pair(value: Size, *, name: str, minimum: int = 1) -> tuple[int, int]:
    pair = tuple(value) if isinstance(value, Iterable) else (value, value)
    if len(pair) != 2 or not all(isinstance(number, int) and number >= minimum for number in pair):
        raise ValueError(f"{name} must be an integer of at least {minimum}, or a pair. Received: {name}={value!r}")
    return pair


def _padding_sides(
    padding: Size | Literal["same", "valid"],
    *,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    dilation: tuple[int, int],
) -> tuple[int, int, int, int]:
    """Return the padding at the left, right, top and bottom.

    Like torch, "same" adds the odd pixel at the right and bottom.
    """
    if padding == "valid":
        return (0, 0, 0, 0)
    if padding == "same":
        if stride != (1, 1):
            raise ValueError(f'padding="same" requires stride 1. Received: stride={stride}')
        rows, columns = kernel_extent(kernel, dilation)
        return (columns // 2, columns - columns // 2, rows // 2, rows - rows // 2)
    if isinstance(padding, str):
        raise ValueError(f'padding must be "same", "valid" or a number of pixels. Received: padding={padding!r}')
    rows, columns = _pair(padding, name="padding", minimum=0)
    return (columns, columns, rows, rows)
