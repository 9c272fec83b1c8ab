"""Multiply-adds of one call of a module, by module type, and an observer that adds them up while modules run.

One convention for what is predicted and what is observed: a convolution costs kernel area × input channels / groups
for each output element (biases are left out), a norm 2, a ReLU or another activation 1, pooling its window; resizing,
additions and multiplications of maps by gates are left out (as in the paper's figures).

Kernels that are mixed for each image cost one multiply-add for each number in them, biases included; standardising a
kernel costs nothing, as it is the same for all images; nor does interpolation in deformable convolutions, as resizing.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import singledispatch
from types import TracebackType

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.module import register_module_forward_hook
from torchvision.ops import FrozenBatchNorm2d, StochasticDepth

from dl_lib.layers import ExpertRouting, KernelAttention, SAConv2d, SPConv2d
from dl_lib.layers.aws_conv import StandardizedConv2d
from dl_lib.layers.geometry import ConvGeometry
from dl_lib.layers.mixed_conv import MixedConv2d
from dl_lib.layers.sac import SWITCH_WINDOW

__all__ = ["MaddsObserver", "count_madds"]


@singledispatch
def count_madds(module: nn.Module, x: Tensor, y: Tensor) -> int:
    """Multiply-adds of the call `y = module(x)`, over the whole batch, without those of the module's children.

    A new kind of leaf module registers its counter: `@count_madds.register`.

    Raises:
        TypeError: for a leaf module that no counter is registered for.
    """
    if next(module.children(), None) is None:
        raise TypeError(
            "no cost is known for this kind of module; expected one that is registered with "
            "`@count_madds.register` (dl_lib.modeling.costs.counters). "
            f"Received: module={type(module).__module__}.{type(module).__qualname__}"
        )
    return 0


@count_madds.register
def _convolution(conv: nn.Conv2d, x: Tensor, y: Tensor) -> int:
    return y.numel() * math.prod(conv.weight.shape[1:])


@count_madds.register
def _linear(linear: nn.Linear, x: Tensor, y: Tensor) -> int:
    return y.numel() * linear.in_features


@count_madds.register
def _mixed_convolution(conv: MixedConv2d, x: Tensor, y: Tensor) -> int:
    numbers = conv.weight.numel() + (0 if conv.bias is None else conv.bias.numel())
    return _taps(conv.geometry) * y.numel() + numbers * x.shape[0]


@count_madds.register
def _standardized_convolution(conv: StandardizedConv2d, x: Tensor, y: Tensor) -> int:
    return _taps(conv.geometry) * y.numel()


@count_madds.register
def _switched_convolution(conv: SAConv2d, x: Tensor, y: Tensor) -> int:
    averaged = y.numel() // conv.geometry.out_channels + (0 if conv.offset_s is None else x.numel())
    means = x.numel() + y.numel()  # of the two global contexts
    return 2 * _taps(conv.geometry) * y.numel() + SWITCH_WINDOW**2 * averaged + means


def _taps(geometry: ConvGeometry) -> int:
    """Multiply-adds of one output element."""
    return math.prod(geometry.kernel_shape[1:])


@count_madds.register
def _split_convolution(conv: SPConv2d, x: Tensor, y: Tensor) -> int:
    window = math.prod(conv.geometry.stride)
    pooled = 0 if window == 1 else window * x.shape[0] * x.shape[1] * math.prod(y.shape[2:])
    return _taps(conv.geometry) * y.numel() + pooled + 2 * y.numel()  # the last: the means of the two parts


@count_madds.register(ExpertRouting)
@count_madds.register(KernelAttention)
def _global_mean(module: nn.Module, x: Tensor, y: Tensor) -> int:
    return x.numel()


@count_madds.register(_NormBase)
@count_madds.register(nn.GroupNorm)
@count_madds.register(FrozenBatchNorm2d)
def _norm(module: nn.Module, x: Tensor, y: Tensor) -> int:
    return 2 * y.numel()


@count_madds.register(nn.ReLU)
@count_madds.register(nn.ReLU6)
@count_madds.register(nn.SiLU)
@count_madds.register(nn.Sigmoid)
@count_madds.register(nn.Hardswish)
@count_madds.register(nn.Hardsigmoid)
def _activation(module: nn.Module, x: Tensor, y: Tensor) -> int:
    return y.numel()


@count_madds.register(nn.AvgPool2d)
@count_madds.register(nn.MaxPool2d)
def _pool(module: nn.AvgPool2d | nn.MaxPool2d, x: Tensor, y: Tensor) -> int:
    assert isinstance(module.kernel_size, int)
    return y.numel() * module.kernel_size**2


@count_madds.register
def _global_pool(module: nn.AdaptiveAvgPool2d, x: Tensor, y: Tensor) -> int:
    return x.numel()


@count_madds.register(nn.Identity)
@count_madds.register(nn.Upsample)
@count_madds.register(nn.Dropout)
@count_madds.register(StochasticDepth)
def _free(module: nn.Module, x: Tensor, y: Tensor) -> int:
    return 0


class MaddsObserver:
    """Adds up, image by image, what the modules called inside the `with` block cost.

    It sees calls of modules, not decisions: what does not run is not counted. Modules must take the images of the
    batch along dimension 0; where they are given a part of the batch, `images` says which.

    Args:
        num_images: images of the whole batch.
    """

    def __init__(self, num_images: int) -> None:
        self.madds = [0] * num_images
        self._images: Sequence[int] = range(num_images)

    @contextmanager
    def images(self, indices: Sequence[int]) -> Iterator[None]:
        """Books what runs inside the block on these images, evenly."""
        outer, self._images = self._images, indices
        try:
            yield
        finally:
            self._images = outer

    def __enter__(self) -> MaddsObserver:
        self._handle = register_module_forward_hook(self._observe)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._handle.remove()

    def _observe(self, module: nn.Module, inputs: tuple[object, ...], output: object) -> None:
        # Modules that take or give something other than one tensor are containers of ours, without a cost of their own.
        if inputs and isinstance(inputs[0], Tensor) and isinstance(output, Tensor):
            madds = count_madds(module, inputs[0], output)
            if madds:
                each, rest = divmod(madds, len(self._images))
                assert rest == 0, f"{type(module).__name__} does not cost the same for every image"
                for image in self._images:
                    self.madds[image] += each
