"""Chain of convolutions for inference, each of which computes sum and ReLU in the same pass."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dl_lib.inference.folding import PLAIN_CONVOLUTIONS
from dl_lib.layers.depthwise import kernel_extent
from dl_lib.modeling.costs.counters import count_madds, measure_madds
from dl_lib.modeling.costs.meta_copy import meta_copy

__all__ = ["ConvChain", "can_be_chained"]

FUSED_DTYPES = {torch.float32, torch.bfloat16}
MIN_ELEMENTS = 2**15  # of the input of a 1x1 convolution, below which torch's own is faster than that of oneDNN


def can_be_chained(module: nn.Module) -> bool:
    """Return whether the module is a 2D convolution with zero padding in pixels."""
    if type(module) not in PLAIN_CONVOLUTIONS:
        return False
    assert isinstance(module, nn.Conv2d)
    return module.padding_mode == "zeros" and not isinstance(module.padding, str)


class ConvChain(nn.Module):
    """Consecutive convolutions, each followed by ReLU or not; for inference, without gradients.

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
        self._madds: dict[torch.Size, int] = {}  # by the shape (C, H, W) of an image

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
        *others, last = cast("list[Link]", [*self.links])
        y = x
        for link in others:
            y = link.run(y)
        return last.run(y, addend=x if self.adds_input else None)

    def madds_per_image(self, shape: torch.Size) -> int:
        """Return the multiply-adds of the replaced module for an image (C, H, W)."""
        if shape not in self._madds:
            (replaced,) = self._replaced
            dtype = next(replaced.parameters()).dtype
            self._madds[shape] = measure_madds(replaced, torch.empty(1, *shape, device="meta", dtype=dtype))
        return self._madds[shape]


class Link(nn.Module):
    """Convolution of a chain and the ReLU after it; not called as a module, so that its cost is not counted.

    Args:
        conv: Convolution for which `can_be_chained` holds.
        relu: Whether ReLU follows.
    """

    def __init__(self, conv: nn.Conv2d, *, relu: bool) -> None:
        super().__init__()
        self.conv = conv
        self.relu = relu
        self._min_elements = MIN_ELEMENTS if conv.kernel_size == (1, 1) else 0
        self._packed: Tensor | None = None
        self._packed_size: torch.Size | None = None

    @property
    def preserves_size(self) -> bool:
        """True if the output has as many rows and columns as the input."""
        rows, columns = self.conv.dilation
        lost = kernel_extent(self.conv.kernel_size, (rows, columns))
        assert not isinstance(self.conv.padding, str)
        return self.conv.stride == (1, 1) and tuple(2 * pixels for pixels in self.conv.padding) == lost

    def run(self, x: Tensor, *, addend: Tensor | None = None) -> Tensor:
        """Return the output for feature maps (B, C, H, W); `addend` (B, C', H', W') is added before ReLU."""
        conv = self.conv
        if _uses_onednn(x) and (addend is not None or x.numel() > self._min_elements):
            arguments = (self._packed_weight(x), conv.bias, conv.padding, conv.stride, conv.dilation, conv.groups)
            run, relu = torch.ops.mkldnn._convolution_pointwise, "relu" if self.relu else None
            if addend is None:
                fused: Tensor = run(x, *arguments, relu or "none", [], "")
            else:
                fused = run.binary(x, addend, *arguments, "add", 1.0, relu, [], "")
            return fused
        y = F.conv2d(x, conv.weight, conv.bias, conv.stride, conv.padding, conv.dilation, conv.groups)
        y = y if addend is None else y.add_(addend)
        return torch.relu_(y) if self.relu else y

    def _packed_weight(self, x: Tensor) -> Tensor:
        """Return the weight in the order that oneDNN prefers for the size of `x`; it is kept for the next call."""
        if self._packed is None or self._packed_size != x.shape[2:]:  # that of another size can be 15 times slower
            conv, self._packed_size = self.conv, x.shape[2:]
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
        and x.dtype in FUSED_DTYPES
        and torch.backends.mkldnn.is_available()
        and bool(torch.backends.mkldnn.enabled)
        and not torch.is_autocast_enabled("cpu")
    )


@count_madds.register
def _chain(chain: ConvChain, x: Tensor, y: Tensor) -> int:
    return len(x) * chain.madds_per_image(x.shape[1:])
