"""Multiply-adds of convolutions, and bytes that operations read and write, piece by piece."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

CONVOLUTION, FUSED_CONVOLUTION = torch.ops.aten.convolution, torch.ops.mkldnn._convolution_pointwise
ALLOCATIONS = (torch.ops.aten.empty, torch.ops.aten.empty_like, torch.ops.aten.new_empty)
UNCOUNTED = (*ALLOCATIONS, torch.ops.mkldnn._reorder_convolution_weight)  # weights are reordered once


@dataclass(frozen=True)
class Piece:
    """Work that runs at once: multiply-adds of convolutions, and bytes that are read or written."""

    kind: str
    madds: int
    num_bytes: int


class WorkCounter(TorchDispatchMode):
    """Mode in which the work of a thread is counted; inference mode must be off.

    Every operation is a piece. Norms, sums and ReLUs that are part of a convolution are free, unlike in the costs that
    the library reports.

    Args:
        kind: Function that returns the kind of the next piece.

    Attributes:
        pieces: Pieces so far.
    """

    def __init__(self, kind: Callable[[], str]) -> None:
        super().__init__()
        self._kind = kind
        self.pieces: list[Piece] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        y = func(*args, **(kwargs or {}))
        if not (func.is_view or func.overloadpacket in UNCOUNTED):
            read = args[1:] if func.overloadpacket == torch.ops.aten.copy_ else args
            madds, unread = _convolution_work(func, args, y)
            self.pieces.append(Piece(self._kind(), madds, _num_bytes(read, kwargs, y) - unread))
        return y


def _num_bytes(*values: Any) -> int:
    return sum(value.numel() * value.itemsize for value in tree_leaves(values) if isinstance(value, Tensor))


def _convolution_work(func: Any, args: tuple[Any, ...], y: Any) -> tuple[int, int]:
    """Return the multiply-adds of a convolution and the bytes of its input that it does not read; else zeros."""
    if func.overloadpacket == CONVOLUTION:
        x, weight, _, stride = args[:4]
    elif func.overloadpacket == FUSED_CONVOLUTION:
        x, *others = args
        weight, _, _, stride = others[1:5] if func == FUSED_CONVOLUTION.binary else others[:4]
    else:
        return 0, 0
    madds = y.numel() * weight.numel() // y.shape[1]
    is_sampled = weight.shape[-2:] == (1, 1)  # a 1x1 convolution with stride 2 reads every fourth position
    return madds, _num_bytes(x) - _num_bytes(x) // math.prod(stride) if is_sampled else 0
