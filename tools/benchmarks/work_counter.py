"""Multiply-adds of convolutions, and bytes that operations read and write, piece by piece."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from dl_lib.inference.conv_chain import ConvChain
from dl_lib.modeling.costs.counters import count_madds

CONVOLUTIONS = (ConvChain, nn.Conv2d)
ALLOCATIONS = (torch.ops.aten.empty, torch.ops.aten.empty_like, torch.ops.aten.new_empty)


@dataclass(frozen=True)
class Piece:
    """Work that runs at once: multiply-adds of convolutions, and bytes that are read or written."""

    kind: str
    madds: int
    num_bytes: int


class WorkCounter(TorchDispatchMode):
    """Mode in which the work of a thread is counted; inference mode must be off.

    A chain of convolutions is one piece, as its strips stay in the caches: it reads its input and its weights and
    writes its output. Every other operation is a piece of its own. Norms and ReLUs that are part of a convolution are
    free, unlike in the costs that the library reports.

    Args:
        kind: Function that returns the kind of the next piece.

    Attributes:
        pieces: Pieces so far.
    """

    def __init__(self, kind: Callable[[], str]) -> None:
        super().__init__()
        self._kind = kind
        self.pieces: list[Piece] = []
        self._is_in_convolution = False

    def __enter__(self) -> WorkCounter:
        self._handles = [register_module_forward_pre_hook(self._start), register_module_forward_hook(self._end)]
        super().__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, trace)
        for handle in self._handles:
            handle.remove()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        y = func(*args, **(kwargs or {}))
        if not (self._is_in_convolution or func.is_view or func.overloadpacket in ALLOCATIONS):
            read = args[1:] if func.overloadpacket == torch.ops.aten.copy_ else args
            self.pieces.append(Piece(self._kind(), 0, _num_bytes(read, kwargs, y)))
        return y

    def _start(self, module: nn.Module, inputs: tuple[Any, ...]) -> None:
        if isinstance(module, CONVOLUTIONS):
            self._is_in_convolution = True

    def _end(self, module: nn.Module, inputs: tuple[Any, ...], y: Any) -> None:
        if isinstance(module, CONVOLUTIONS):
            (x,) = inputs
            num_bytes = _num_bytes(y, [*module.parameters()]) + _num_bytes(x) // _unread(module)
            self.pieces.append(Piece(self._kind(), _convolution_madds(module, x, y), num_bytes))
            self._is_in_convolution = False


def _num_bytes(*values: Any) -> int:
    return sum(value.numel() * value.itemsize for value in tree_leaves(values) if isinstance(value, Tensor))


def _unread(module: ConvChain | nn.Conv2d) -> int:
    """Return the divisor of the input's positions that are read: a 1x1 convolution with stride 2 reads every fourth."""
    conv = module.links[0].conv if isinstance(module, ConvChain) else module
    return math.prod(conv.stride) if conv.kernel_size == (1, 1) else 1


def _convolution_madds(module: ConvChain | nn.Conv2d, x: Tensor, y: Tensor) -> int:
    if isinstance(module, nn.Conv2d):
        return count_madds(module, x, y)
    shape, madds = x.shape[1:], 0
    for link in module.links:
        shape = link.output_shape(shape)
        madds += count_madds(link.conv, x, torch.empty(len(x), *shape, device="meta"))
    return madds
