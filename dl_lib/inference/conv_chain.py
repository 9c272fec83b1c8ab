"""Chain of convolutions for inference, computed in strips of rows that stay in the CPU caches."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dl_lib.inference.folding import PLAIN_CONVOLUTIONS
from dl_lib.layers.depthwise import kernel_extent
from dl_lib.layers.feature_maps import is_channels_last
from dl_lib.modeling.costs.counters import count_madds, measure_madds
from dl_lib.modeling.costs.meta_copy import meta_copy

__all__ = ["ConvChain", "can_be_chained"]

MIN_ELEMENTS = 2**15  # of the input of a 1x1 convolution, below which torch's own is faster than that of oneDNN
BYTES_PER_THREAD = 2**20  # of the largest feature map of a strip


def can_be_chained(module: nn.Module) -> bool:
    """Return whether the module is a 2D convolution with zero padding of at most its kernel's extent, in pixels."""
    if type(module) not in PLAIN_CONVOLUTIONS:
        return False
    assert isinstance(module, nn.Conv2d)
    if module.padding_mode != "zeros" or isinstance(module.padding, str):
        return False
    return all(pixels <= limit for pixels, limit in zip(module.padding, _extent(module), strict=True))


def _extent(conv: nn.Conv2d) -> tuple[int, int]:
    rows, columns = conv.dilation
    return kernel_extent(conv.kernel_size, (rows, columns))


class ConvChain(nn.Module):
    """Consecutive convolutions, each followed by ReLU or not; for inference, without gradients.

    On CPUs, in channels-last order, feature maps that exceed the caches are computed in strips of rows: all
    convolutions on one strip, then on the next.

    Args:
        convs: Convolutions for which `can_be_chained` holds.
        relus: Whether ReLU follows each convolution.
        replaced: Module with the same output; reported costs are those of its parts.

    Attributes:
        adds_input: Whether the input is added to the output of the last convolution, which preserves the size, before
            its ReLU.
    """

    def __init__(self, convs: Sequence[nn.Conv2d], relus: Sequence[bool], *, replaced: nn.Module) -> None:
        super().__init__()
        self.links = nn.ModuleList(Link(conv, relu=relu) for conv, relu in zip(convs, relus, strict=True))
        self.adds_input = False
        self._replaced = (meta_copy(replaced),)  # in a tuple, so that it is no child
        self._shapes_of: dict[torch.Size, list[torch.Size]] = {}  # by the shape (C, H, W) of an image
        self._madds: dict[torch.Size, int] = {}

    def forward(self, x: Tensor) -> Tensor:
        """Return feature maps (B, C', H', W') for feature maps (B, C, H, W).

        Raises:
            RuntimeError: If gradients of `x` are required.
        """
        if torch.is_grad_enabled() and x.requires_grad:
            raise RuntimeError(
                "an optimized model computes no gradients; call it in torch.inference_mode(), or use the model itself. "
                "Received: requires_grad=True"
            )
        shapes = self._shapes(x.shape[1:])
        height, rows = shapes[-1][1], _rows_per_strip(x, shapes)
        if rows >= height:
            y = x
            for link, addend in zip(self._links(), self._addends(x), strict=True):
                y = link.run(y, addend=addend)
            return y
        y = torch.empty(len(x), *shapes[-1], dtype=x.dtype, device=x.device, memory_format=torch.channels_last)
        for image, output in zip(x.split(1), y.split(1), strict=True):
            for first in range(0, height, rows):
                strip = _Rows(first, min(first + rows, height))
                output[:, :, slice(*strip)] = self._run_strip(image, strip, heights=[shape[1] for shape in shapes])
        return y

    def _shapes(self, shape: torch.Size) -> list[torch.Size]:
        """Return the shapes (C, H, W) of an input of this shape and of the outputs of all convolutions."""
        if shape not in self._shapes_of:
            shapes = [shape]
            for link in self._links():
                shapes.append(link.output_shape(shapes[-1]))
            self._shapes_of[shape] = shapes
        return self._shapes_of[shape]

    def madds_per_image(self, shape: torch.Size) -> int:
        """Return the multiply-adds of the replaced module for an image (C, H, W)."""
        if shape not in self._madds:
            (replaced,) = self._replaced
            dtype = next(replaced.parameters()).dtype
            self._madds[shape] = measure_madds(replaced, torch.empty(1, *shape, device="meta", dtype=dtype))
        return self._madds[shape]

    def _run_strip(self, x: Tensor, strip: _Rows, *, heights: Sequence[int]) -> Tensor:
        """Return the rows `strip` of the output for one image; `heights` are those of all feature maps in full."""
        needed = [strip]  # rows of the output, and before them those of the inputs
        for link, height in zip(reversed(self._links()), reversed(heights[:-1]), strict=True):
            needed.insert(0, link.input_rows(needed[0], height=height))
        y = x[:, :, slice(*needed[0])]
        for link, rows, output_rows, addend in zip(
            self._links(), needed[:-1], needed[1:], self._addends(x), strict=True
        ):
            y = link.run_rows(y, rows, output_rows, addend=addend)
        return y

    def _links(self) -> list[Link]:
        return cast("list[Link]", [*self.links])

    def _addends(self, x: Tensor) -> list[Tensor | None]:
        """Return what each convolution adds to its output."""
        return [*[None] * (len(self.links) - 1), x if self.adds_input else None]


class _Rows(NamedTuple):
    """Rows of a feature map: the first, and the one after the last."""

    first: int
    end: int


class Link(nn.Module):
    """Convolution of a chain and the ReLU after it; not called as a module, so that its cost is not counted.

    Args:
        conv: Convolution for which `can_be_chained` holds.
        relu: Whether ReLU follows.
    """

    def __init__(self, conv: nn.Conv2d, *, relu: bool) -> None:
        super().__init__()
        assert not isinstance(conv.padding, str)
        self.conv = conv
        self.relu = relu
        self._extent, self._padding = _extent(conv), conv.padding
        self._min_elements = MIN_ELEMENTS if conv.kernel_size == (1, 1) else 0
        self._packed: Tensor | None = None

    @property
    def preserves_size(self) -> bool:
        """True if the output has as many rows and columns as the input."""
        return self.conv.stride == (1, 1) and tuple(2 * pixels for pixels in self._padding) == self._extent

    def run(self, x: Tensor, *, addend: Tensor | None = None, pads_rows: bool = True) -> Tensor:
        """Return the output for feature maps (B, C, H, W).

        Args:
            x: Feature maps.
            addend: Feature maps that are added before ReLU.
            pads_rows: Whether to pad above and below.
        """
        conv = self.conv
        padding = self._padding if pads_rows else (0, self._padding[1])
        if _uses_onednn(x) and (addend is not None or x.numel() > self._min_elements):
            arguments = (self._packed_weight(x), conv.bias, padding, conv.stride, conv.dilation, conv.groups)
            run, relu = torch.ops.mkldnn._convolution_pointwise, "relu" if self.relu else None
            if addend is None:
                fused: Tensor = run(x, *arguments, relu or "none", [], "")
            else:
                fused = run.binary(x, addend, *arguments, "add", 1.0, relu, [], "")
            return fused
        y = F.conv2d(x, conv.weight, conv.bias, conv.stride, padding, conv.dilation, conv.groups)
        y = y if addend is None else y.add_(addend)
        return torch.relu_(y) if self.relu else y

    def run_rows(self, x: Tensor, rows: _Rows, output_rows: _Rows, *, addend: Tensor | None = None) -> Tensor:
        """Return rows of the output for the rows of the input that `input_rows` names; `addend` has all rows."""
        pads_rows = self._reached_rows(output_rows) != rows
        first = rows.first // self.conv.stride[0] if pads_rows else output_rows.first
        if addend is not None:
            addend = addend[:, :, slice(*(rows if pads_rows else output_rows))]
        y = self.run(x, addend=addend, pads_rows=pads_rows)
        return y[:, :, output_rows.first - first : output_rows.end - first]

    def input_rows(self, output_rows: _Rows, *, height: int) -> _Rows:
        """Return the rows of an input of this height that rows of the output depend on."""
        first, end = reached = self._reached_rows(output_rows)
        if first >= 0 and end <= height:
            return reached
        stride = self.conv.stride[0]
        return _Rows(max(0, first // stride * stride), min(end, height))  # with padding, rows must be whole strides

    def output_shape(self, shape: torch.Size) -> torch.Size:
        """Return the shape (C', H', W') of the output for one image (C, H, W)."""
        sizes = (
            (side + 2 * pixels - lost - 1) // stride + 1
            for side, pixels, lost, stride in zip(shape[1:], self._padding, self._extent, self.conv.stride, strict=True)
        )
        return torch.Size((self.conv.out_channels, *sizes))

    def _reached_rows(self, output_rows: _Rows) -> _Rows:
        """Return the rows that rows of the output depend on, those of the padding included."""
        stride, padding = self.conv.stride[0], self._padding[0]
        end = (output_rows.end - 1) * stride - padding + self._extent[0] + 1
        return _Rows(output_rows.first * stride - padding, end)

    def _packed_weight(self, x: Tensor) -> Tensor:
        """Return the weight in the order that oneDNN requires for inputs like `x`, ordered once."""
        if self._packed is None:
            conv = self.conv
            geometry = (conv.padding, conv.stride, conv.dilation, conv.groups)
            self._packed = torch.ops.mkldnn._reorder_convolution_weight(conv.weight, *geometry, x.shape)
        return self._packed

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_packed": None}  # can be neither copied nor stored

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Link:
        self._packed = None
        return super()._apply(fn, recurse)

    def _load_from_state_dict(self, *arguments: Any, **options: Any) -> None:
        self._packed = None
        super()._load_from_state_dict(*arguments, **options)


def _uses_onednn(x: Tensor) -> bool:
    """Return whether oneDNN computes convolution, sum and ReLU in one pass."""
    return (
        x.device.type == "cpu"
        and x.dtype == torch.float32
        and torch.backends.mkldnn.is_available()
        and bool(torch.backends.mkldnn.enabled)
        and not torch.is_autocast_enabled("cpu")
    )


def _rows_per_strip(x: Tensor, shapes: Sequence[torch.Size]) -> int:
    """Return the rows of the output to compute together, for feature maps of these shapes (C, H, W)."""
    rows = shapes[-1][1]
    rows_are_contiguous = is_channels_last(x) and x.device.type == "cpu"
    if (
        not rows_are_contiguous or len(shapes) < 3 or torch.is_autocast_enabled("cpu")
    ):  # a single convolution gains nothing
        return rows
    largest = max(map(math.prod, shapes)) * x.itemsize
    num_strips = math.ceil(largest / (torch.get_num_threads() * BYTES_PER_THREAD))
    return math.ceil(rows / num_strips)


@count_madds.register
def _chain(chain: ConvChain, x: Tensor, y: Tensor) -> int:
    return len(x) * chain.madds_per_image(x.shape[1:])
