"""Multiply-add counters by module type, and an observer that applies them while modules run.

Predicted and observed costs share one convention, which is the paper's (arXiv 2003.10401). A convolution costs kernel
area × input channels / groups per output element (biases are not counted), a norm 2 even if it is folded, a ReLU or
another activation 1, pooling its window. Resizing, additions, and the multiplication of feature maps by gates are free.

Mixing kernels per image costs one multiply-add per kernel element, biases included. Weight standardization is free
because its result is the same for all images; the interpolation of deformable convolutions is free, like resizing.
"""

from __future__ import annotations

import math
import threading
from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import singledispatch
from types import TracebackType
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.module import register_module_forward_hook
from torchvision.ops import FrozenBatchNorm2d, StochasticDepth

from dl_lib.layers import ExpertRouting, KernelAttention, SAConv2d, SPConv2d
from dl_lib.layers.aws_conv import StandardizedConv2d
from dl_lib.layers.geometry import ConvGeometry
from dl_lib.layers.mixed_conv import MixedConv2d
from dl_lib.layers.sac import SWITCH_WINDOW

__all__ = ["CallPart", "MaddsObserver", "PartObserver", "call_part", "count_madds", "measure_madds"]


T = TypeVar("T")
CallPart = Callable[[Callable[[Any], Any], Any], Any]


def call_part(part: Callable[[Any], T], x: Any) -> T:
    """Return `part(x)`."""
    return part(x)


@singledispatch
def count_madds(module: nn.Module, x: Tensor, y: Tensor) -> int:
    """Return the multiply-adds of the call `y = module(x)` over the whole batch, without those of child modules.

    Register a counter for a new type of leaf module with `@count_madds.register`.

    Raises:
        TypeError: If the module is a leaf and no counter is registered for its type.
    """
    if next(module.children(), None) is None:
        raise TypeError(
            "no multiply-add counter exists for this module type; register one with `@count_madds.register` "
            "(dl_lib.modeling.costs.counters). "
            f"Received: module={type(module).__module__}.{type(module).__qualname__}"
        )
    return 0


@count_madds.register(nn.Conv2d)
@count_madds.register(StandardizedConv2d)
def _convolution(conv: nn.Conv2d | StandardizedConv2d, x: Tensor, y: Tensor) -> int:
    return y.numel() * math.prod(conv.weight.shape[1:])


@count_madds.register
def _linear(linear: nn.Linear, x: Tensor, y: Tensor) -> int:
    return y.numel() * linear.in_features


@count_madds.register
def _mixed_convolution(conv: MixedConv2d, x: Tensor, y: Tensor) -> int:
    kernel_elements = conv.weight.numel() + (0 if conv.bias is None else conv.bias.numel())
    return _madds_per_output(conv.geometry) * y.numel() + kernel_elements * x.shape[0]


@count_madds.register
def _switchable_convolution(conv: SAConv2d, x: Tensor, y: Tensor) -> int:
    averaged = y.numel() // conv.geometry.out_channels + (0 if conv.offset_s is None else x.numel())
    context_means = x.numel() + y.numel()
    return 2 * _madds_per_output(conv.geometry) * y.numel() + SWITCH_WINDOW**2 * averaged + context_means


@count_madds.register
def _split_convolution(conv: SPConv2d, x: Tensor, y: Tensor) -> int:
    window = math.prod(conv.geometry.stride)
    pooled = 0 if window == 1 else window * x.shape[0] * x.shape[1] * math.prod(y.shape[2:])
    branch_means = 2 * y.numel()
    return _madds_per_output(conv.geometry) * y.numel() + pooled + branch_means


def _madds_per_output(geometry: ConvGeometry) -> int:
    return math.prod(geometry.kernel_shape[1:])


@count_madds.register(nn.AdaptiveAvgPool2d)
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


@count_madds.register(nn.Identity)
@count_madds.register(nn.Upsample)
@count_madds.register(nn.Dropout)
@count_madds.register(StochasticDepth)
def _free(module: nn.Module, x: Tensor, y: Tensor) -> int:
    return 0


class MaddsObserver:
    """Context manager that counts the multiply-adds of all module calls inside its block, per image.

    It observes calls of its thread, not routing decisions: a module that does not run is not counted. Modules must take
    the batch along dimension 0; where a module runs on part of the batch, `run` receives that part.

    Args:
        num_images: Number of images in the batch.

    Attributes:
        madds: Multiply-adds of each image so far.
        by_module: Multiply-adds of each module's own calls so far, over all images.
    """

    def __init__(self, num_images: int) -> None:
        self.madds = [0] * num_images
        self.by_module: Counter[nn.Module] = Counter()
        self._is_counting = False
        self._images: Sequence[int] = range(num_images)
        self._thread = threading.get_ident()

    def run(self, part: Callable[[Any], T], x: Any, images: Sequence[int]) -> T:
        """Call a part, and assign its cost to these images, in equal parts."""
        outer, self._images = self._images, images
        try:
            return part(x)
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
        # Only containers of this library take or return anything but one tensor; they have no cost of their own.
        # The hook is global; and a counter may call the modules that its module replaces.
        if self._is_counting or threading.get_ident() != self._thread:
            return
        if inputs and isinstance(inputs[0], Tensor) and isinstance(output, Tensor):
            self._is_counting = True
            madds = count_madds(module, inputs[0], output)
            self._is_counting = False
            if madds:
                self.by_module[module] += madds
                per_image, remainder = divmod(madds, len(self._images))
                assert remainder == 0, f"{type(module).__name__} does not cost the same for every image"
                for image in self._images:
                    self.madds[image] += per_image


class PartObserver:
    """Counts the multiply-adds of the parts of a network that run, per image.

    Hooks on every module call would take as long as small convolutions. A part is therefore observed with
    `MaddsObserver` when it first runs for a size, and its cost is added whenever it runs again. The modules of a part
    must not be exchanged in between.

    Args:
        num_images: Number of images in the batch.
        measured: Costs of parts so far, kept from batch to batch.
        call: Function that calls a part with its input, such as one that measures the time.

    Attributes:
        madds: Multiply-adds of each image so far.
    """

    def __init__(self, num_images: int, *, measured: dict[Any, int], call: CallPart) -> None:
        self.madds = [0] * num_images
        self._measured = measured
        self._call = call

    def run(self, part: Callable[[Any], T], x: Any, images: Sequence[int], *, name: Hashable | None = None) -> T:
        """Return `part(x)`.

        Args:
            part: Module or other function.
            x: Feature maps of these images, or a dict of such feature maps.
            images: Images that the part runs for.
            name: Name of a part that is not the same object in every batch.
        """
        tensors = x.values() if isinstance(x, Mapping) else (x,)
        key = (name or part, *(tensor.shape[1:] for tensor in tensors))
        if key in self._measured:
            y: T = self._call(part, x)
        else:
            with MaddsObserver(len(images)) as observer:
                y = self._call(part, x)
            self._measured[key] = observer.madds[0]
        for image in images:
            self.madds[image] += self._measured[key]
        return y


@torch.no_grad()
def measure_madds(function: Callable[..., object], *inputs: Any) -> int:
    """Return the multiply-adds of all modules that a function calls for a batch of one image."""
    with MaddsObserver(num_images=1) as observer:
        function(*inputs)
    return observer.madds[0]
