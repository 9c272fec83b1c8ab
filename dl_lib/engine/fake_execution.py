"""Execution of models on fake tensors, which have shapes, dtypes and storages, but no values."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensorMode,
    UnsupportedOperatorException,
)
from torch.utils._python_dispatch import TorchDispatchMode

from dl_lib.config import ConfigError

__all__ = ["fake_copy", "fake_execution", "fake_mode"]

Module = TypeVar("Module", bound=nn.Module)

_WITHOUT_VALUES = (DataDependentOutputException, DynamicOutputShapeException, UnsupportedOperatorException)


def fake_mode() -> FakeTensorMode:
    """Return a mode for `fake_copy` and `fake_execution`; tensors of two modes cannot be combined."""
    return FakeTensorMode(allow_non_fake_inputs=True)  # a module may hold constants that are no buffers


def fake_copy(module: Module, *, mode: FakeTensorMode) -> Module:
    """Return a copy whose parameters and buffers are fake, on the same device and in the same memory format."""

    def fake(tensor: Tensor) -> Tensor:
        return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device=tensor.device)

    memo: dict[int, Any] = {}
    with mode:
        for buffer in module.buffers():
            memo[id(buffer)] = fake(buffer)
        for parameter in module.parameters():
            memo[id(parameter)] = nn.Parameter(fake(parameter), requires_grad=parameter.requires_grad)
    return copy.deepcopy(module, memo)


@contextmanager
def fake_execution(mode: FakeTensorMode, *observers: TorchDispatchMode) -> Iterator[None]:
    """Context in which operations return fake tensors, all gates are open, and masks select every element.

    Memory is therefore that of the most expensive values.

    Args:
        mode: Mode of the tensors.
        observers: Dispatch modes that observe the operations.

    Raises:
        ConfigError: If an operation needs values, or has no implementation for fake tensors.
    """
    try:
        with ExitStack() as stack, warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Accessing the data pointer of FakeTensor")  # copies
            for context in (mode, *observers, _AssumedValues()):
                stack.enter_context(context)
            yield
    except _WITHOUT_VALUES as error:
        raise ConfigError(
            "the memory of this network cannot be predicted: an operation needs the values of its tensors, or has no "
            f"implementation without them. Received: {error}"
        ) from error


class _AssumedValues(TorchDispatchMode):
    """Dispatch mode with results for operations that need values: numbers are 1, booleans False, masks full."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        run = _OPERATIONS.get(func.name(), func)
        return run(*args, **(kwargs or {}))


def _read(tensor: Tensor) -> float | bool:
    """Return the number or boolean that the program reads, such as a gate value or whether a cell is closed."""
    return tensor.dtype != torch.bool and 1.0


def _nonzero(mask: Tensor) -> Tensor:
    return torch.empty((mask.numel(), mask.ndim), dtype=torch.int64, device=mask.device)


def _index(x: Tensor, indices: Sequence[Tensor | None]) -> Tensor:
    positions: list[Tensor | None] = []
    for index in indices:
        if index is not None and index.dtype == torch.bool:
            positions += _nonzero(index).unbind(dim=1)
        else:
            positions.append(index)
    return torch.ops.aten.index.Tensor(x, positions)


def _packed_weight(weight: Tensor, *geometry: Any) -> Tensor:
    return weight.clone()  # in oneDNN's layout, of about the same size


def _conv_and_sum(x: Tensor, addend: Tensor, *arguments: Any) -> Tensor:
    return torch.empty_like(addend)


_OPERATIONS: dict[str, Callable[..., Any]] = {
    "aten::_local_scalar_dense": _read,
    "aten::nonzero": _nonzero,
    "aten::index.Tensor": _index,
    "mkldnn::_reorder_convolution_weight": _packed_weight,
    "mkldnn::_convolution_pointwise.binary": _conv_and_sum,
}
