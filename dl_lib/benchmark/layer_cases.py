"""What is measured of the conditional convolutions: each beside a plain convolution of the same shape."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from dl_lib.benchmark.cases import Case, Run, Settings
from dl_lib.layers import CondConv2d, ConvAWS2d, DynamicConv2d, SAConv2d, SPConv2d
from dl_lib.layers.depthwise import DilatedConv2d
from dl_lib.layers.sac import LARGE_RATE
from dl_lib.modeling.costs.counters import MaddsObserver

__all__ = ["KERNELS", "LOOP_OF", "STATIC", "KernelName", "LayerCase", "Scale", "layer_cases"]

STATIC = "static"
MADDS_PER_GFLOP = 1e9
SEED = 0

KernelName = Literal["dense 3x3", "depthwise 3x3", "1x1"]
KERNELS: tuple[KernelName, ...] = ("dense 3x3", "depthwise 3x3", "1x1")


@dataclass(frozen=True)
class Scale:
    """Attributes: channels in and out; height and width of the maps."""

    channels: int
    height: int
    width: int

    def __str__(self) -> str:
        return f"{self.channels}x{self.height}x{self.width}"


class TwoRates(nn.Module):
    """The sum of two plain convolutions, one of them dilated: what switchable atrous convolution has to do at least.

    Args:
        in_channels, out_channels, kernel_size, options: of both, as of `nn.Conv2d`.
        padding: of the one without dilation.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, *, padding: int, **options: Any) -> None:
        super().__init__()
        self.convs = nn.ModuleList(
            DilatedConv2d(in_channels, out_channels, kernel_size, padding=rate * padding, dilation=rate, **options)
            for rate in (1, LARGE_RATE)
        )

    def forward(self, x: Tensor) -> Tensor:
        small, large = self.convs
        y: Tensor = small(x) + large(x)
        return y


Maker = Callable[..., nn.Module]
_LAYERS: Mapping[str, Maker] = {
    STATIC: nn.Conv2d,
    "cond": CondConv2d,
    "cond loop": lambda *shape, **options: CondConv2d(*shape, **options, implementation="loop"),
    "dynamic": DynamicConv2d,
    "dynamic loop": lambda *shape, **options: DynamicConv2d(*shape, **options, implementation="loop"),
    "aws": ConvAWS2d,
    "two rates": TwoRates,
    "sac": SAConv2d,
    "split": lambda *shape, groups, **options: SPConv2d(*shape, **options),
}
_ONLY_DENSE = ("split",)
_ONLY_LARGER_KERNELS = ("two rates", "sac", "split")
LOOP_OF: Mapping[str, str] = {"cond": "cond loop", "dynamic": "dynamic loop"}


@dataclass(frozen=True)
class LayerCase(Case):
    """One layer on one batch of maps.

    Attributes:
        layer: name of the layer; "static" is the plain convolution.
        kernel: name of the kernel.
        scale: of the maps.
        images: in the batch.
        direction: `forward` runs in evaluation, `step` forward and backward, to the weights and to the maps.
        channels_last: memory order of the maps.
    """

    layer: str
    kernel: KernelName
    scale: Scale
    images: int
    direction: Literal["forward", "step"]
    channels_last: bool

    @property
    def name(self) -> str:
        return f"{self.group}/{self.layer}"

    @property
    def group(self) -> str:
        return f"{self.direction}/{self.kernel}/{self.scale}/{self.images}"

    def prepare(self, settings: Settings) -> Run:
        torch.manual_seed(SEED)
        layer = self._build(settings.device)
        order = torch.channels_last if self.channels_last else torch.contiguous_format
        shape = (self.images, self.scale.channels, self.scale.height, self.scale.width)
        x = torch.randn(shape, device=settings.device).contiguous(memory_format=order)
        gflops = self._gflops(shape)
        call = _forward(layer, x) if self.direction == "forward" else _step(layer, x)

        def run() -> float:
            call()
            return gflops

        return run

    def _build(self, device: str) -> nn.Module:
        channels, side = self.scale.channels, 1 if self.kernel == "1x1" else 3
        return _LAYERS[self.layer](
            channels,
            channels,
            side,
            padding=side // 2,
            groups=channels if self.kernel == "depthwise 3x3" else 1,
            bias=False,
            device=device,
        )

    def _gflops(self, shape: tuple[int, int, int, int]) -> float:
        with MaddsObserver(self.images) as observer:
            self._build("meta")(torch.empty(shape, device="meta"))
        return observer.madds[0] / MADDS_PER_GFLOP


def _forward(layer: nn.Module, x: Tensor) -> Callable[[], None]:
    layer.eval()

    def call() -> None:
        with torch.inference_mode():
            layer(x)

    return call


def _step(layer: nn.Module, x: Tensor) -> Callable[[], None]:
    slope = torch.randn_like(x)  # all layers keep the shape
    x.requires_grad_()

    def call() -> None:
        x.grad = None
        layer.zero_grad()
        layer(x).backward(slope)

    return call


def layer_cases(
    scales: Sequence[tuple[int, int, int]], *, images: Sequence[int], channels_last: bool
) -> tuple[LayerCase, ...]:
    """All layers that have the kernel, for all kernels, scales, batches and both directions; groups side by side.

    Args:
        scales: channels, height and width of the maps.
        images: in the batches.
        channels_last: memory order of the maps.
    """
    return tuple(
        LayerCase(layer, kernel, Scale(*scale), count, direction, channels_last)
        for kernel in KERNELS
        for scale in scales
        for count in images
        for direction in ("forward", "step")
        for layer in _layers_with(kernel)
    )


def _layers_with(kernel: KernelName) -> list[str]:
    absent = {"dense 3x3": (), "depthwise 3x3": _ONLY_DENSE, "1x1": _ONLY_LARGER_KERNELS}[kernel]
    return [layer for layer in _LAYERS if layer not in absent]
