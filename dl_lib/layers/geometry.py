"""Where a convolution looks: the arguments of `nn.Conv2d` that do not depend on its weights, checked once."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

from dl_lib.layers.depthwise import conv2d_fast_depthwise, reach
from dl_lib.layers.feature_maps import is_channels_last
from dl_lib.utils.names import nearest_names

__all__ = ["ConvGeometry", "PaddingMode", "Size", "check_maps", "make_geometry"]

PaddingMode = Literal["zeros", "reflect", "replicate", "circular"]
Size = int | tuple[int, int]  # one number for both axes, or (of the height, of the width)

_PADDING_MODES: tuple[PaddingMode, ...] = get_args(PaddingMode)


@dataclass(frozen=True)
class ConvGeometry:
    """Kernel, steps and margins of a two-dimensional convolution; pairs are (of the height, of the width).

    Attributes:
        in_channels: of the maps that it takes.
        out_channels: of the maps that it gives.
        kernel_size: rows and columns of the kernel.
        stride: steps of the kernel.
        padding: pixels added at the left, right, top and bottom, in the order of `torch.nn.functional.pad`.
        dilation: distance of neighbouring taps.
        groups: of channels that do not see one another.
        padding_mode: what the added pixels hold.
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
        """Shape of the weights: (out_channels, in_channels / groups, rows, columns)."""
        return (self.out_channels, self.in_channels // self.groups, *self.kernel_size)

    @property
    def is_pointwise(self) -> bool:
        """Whether each output pixel comes from one pixel of all channels, and there is one for each step."""
        return self.kernel_size == (1, 1) and self.groups == 1 and not any(self.padding)

    def require_kept_size(self) -> None:
        """Raises ValueError unless the output has the size of the input, divided by the stride and rounded up."""
        left, right, top, bottom = self.padding
        if (top + bottom, left + right) != reach(self.kernel_size, self.dilation):
            raise ValueError(
                "the parts of this layer give maps of one size only where 2 * padding = dilation * (kernel_size - 1). "
                f"Received: {self}"
            )

    def pad(self, x: Tensor, *, rate: int = 1) -> tuple[Tensor, tuple[int, int]]:
        """Adds the margins that `conv2d` cannot add itself.

        Maps that are smaller than their margins, which torch refuses to reflect or to go round, are reflected, or gone
        round, as often as it takes.

        Args:
            x: (B, C, H, W).
            rate: factor of the margins.

        Returns:
            The maps with margins, and what is left to do for the `padding` of `conv2d`.
        """
        left, right, top, bottom = (rate * pixels for pixels in self.padding)
        if self.padding_mode == "zeros" and left == right and top == bottom:
            return x, (top, left)
        wide = max(top, bottom) >= x.shape[2] or max(left, right) >= x.shape[3]
        if wide and self.padding_mode in ("reflect", "circular"):
            rows = _repeated(x.shape[2], top, bottom, mode=self.padding_mode, device=x.device)
            columns = _repeated(x.shape[3], left, right, mode=self.padding_mode, device=x.device)
            padded = x.index_select(2, rows).index_select(3, columns)
        else:
            mode = "constant" if self.padding_mode == "zeros" else self.padding_mode
            padded = F.pad(x, (left, right, top, bottom), mode=mode)
        order = torch.channels_last if is_channels_last(x) else torch.contiguous_format  # not every mode keeps it
        return padded.contiguous(memory_format=order), (0, 0)

    def conv(self, x: Tensor, weight: Tensor, bias: Tensor | None, *, rate: int = 1, images: int = 1) -> Tensor:
        """The convolution of maps (B, C, H, W) with one kernel.

        Args:
            x: the maps.
            weight: of `kernel_shape`.
            bias: (out_channels,) or None.
            rate: factor of margins and dilation.
            images: factor of all channels and of the groups, for images side by side.
        """
        x, padding = self.pad(x, rate=rate)
        dilation = (rate * self.dilation[0], rate * self.dilation[1])
        return conv2d_fast_depthwise(
            x, weight, bias, stride=self.stride, padding=padding, dilation=dilation, groups=images * self.groups
        )

    def __str__(self) -> str:
        words = [f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}"]
        if any(self.padding):
            words.append(f"padding={self.padding}")
        if self.dilation != (1, 1):
            words.append(f"dilation={self.dilation}")
        if self.groups != 1:
            words.append(f"groups={self.groups}")
        if self.padding_mode != "zeros":
            words.append(f"padding_mode={self.padding_mode!r}")
        return ", ".join(words)


def check_maps(x: Tensor, *, channels: int) -> None:
    """Raises ValueError unless `x` is (B, channels, H, W)."""
    if x.ndim != 4 or x.shape[1] != channels:
        raise ValueError(
            f"the layer takes maps of shape (images, {channels}, height, width). Received: x.shape={tuple(x.shape)}"
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
    """Checks the arguments of `nn.Conv2d` and writes them out.

    Raises:
        ValueError: for numbers below 1 (padding: below 0), groups that do not divide the channels, "same" with a
            stride, and unknown names.
    """
    for name, value in {"in_channels": in_channels, "out_channels": out_channels, "groups": groups}.items():
        if value < 1:
            raise ValueError(f"{name} is a whole number from 1. Received: {name}={value!r}")
    for name, value in {"in_channels": in_channels, "out_channels": out_channels}.items():
        if value % groups:
            raise ValueError(f"groups must divide {name}. Received: {name}={value}, groups={groups}")
    if padding_mode not in _PADDING_MODES:
        raise ValueError(
            f"no padding mode has this name; {nearest_names(padding_mode, _PADDING_MODES)}. "
            f"Received: padding_mode={padding_mode!r}"
        )
    kernel, steps = _pair(kernel_size, name="kernel_size"), _pair(stride, name="stride")
    rates = _pair(dilation, name="dilation")
    return ConvGeometry(
        in_channels=in_channels,
        out_channels=out_channels,
        kernel_size=kernel,
        stride=steps,
        padding=_margins(padding, kernel=kernel, stride=steps, dilation=rates),
        dilation=rates,
        groups=groups,
        padding_mode=padding_mode,
    )


def _repeated(side: int, before: int, after: int, *, mode: PaddingMode, device: torch.device) -> Tensor:
    """Which of `side` pixels stands at each position of a padded axis, margins of any width."""
    positions = torch.arange(-before, side + after, device=device)
    if mode == "circular":
        return positions % side
    period = max(1, 2 * (side - 1))
    return torch.minimum(positions % period, period - positions % period)


def _pair(value: Size, *, name: str, least: int = 1) -> tuple[int, int]:
    pair = tuple(value) if isinstance(value, Iterable) else (value, value)
    if len(pair) != 2 or not all(isinstance(number, int) and number >= least for number in pair):
        raise ValueError(f"{name} is one whole number from {least}, or two. Received: {name}={value!r}")
    return pair


def _margins(
    padding: Size | Literal["same", "valid"],
    *,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    dilation: tuple[int, int],
) -> tuple[int, int, int, int]:
    """Left, right, top, bottom; of an odd margin "same" puts the larger half at the right and the bottom, as torch."""
    if padding == "valid":
        return (0, 0, 0, 0)
    if padding == "same":
        if stride != (1, 1):
            raise ValueError(f'padding "same" keeps the size only at stride 1. Received: stride={stride}')
        rows, columns = reach(kernel, dilation)
        return (columns // 2, columns - columns // 2, rows // 2, rows - rows // 2)
    if isinstance(padding, str):
        raise ValueError(f'padding is "same", "valid" or pixels. Received: padding={padding!r}')
    rows, columns = _pair(padding, name="padding", least=0)
    return (columns, columns, rows, rows)
