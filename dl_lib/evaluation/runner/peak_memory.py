"""Peak memory of forward passes, without the memory of the weights."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

from dl_lib.utils.modes import evaluation_mode

__all__ = ["LiveMemory", "peak_memory_bytes"]


def peak_memory_bytes(model: nn.Module, inputs: Sequence[Mapping[str, Any]]) -> int:
    """Return the peak memory of inference on a batch, in addition to that of the weights and inputs.

    On a GPU, it includes memory that operations allocate internally, as counted by `torch.cuda`; on the CPU, see
    `LiveMemory`.
    """
    device = next((values.device for values in model.parameters()), torch.device("cpu"))
    with evaluation_mode(model), torch.inference_mode():
        if device.type != "cuda":
            with LiveMemory() as memory:
                model(inputs)
            return memory.peak_bytes
        allocated = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        model(inputs)
        return torch.cuda.max_memory_allocated(device) - allocated


class LiveMemory(TorchDispatchMode):
    """Dispatch mode that counts the storages returned by operations until they are freed.

    Memory that an operation allocates and frees internally is not counted.

    Attributes:
        peak_bytes: Largest memory of the storages that existed at the same time.
    """

    def __init__(self) -> None:
        super().__init__()
        self.peak_bytes = self._live_bytes = 0
        self._seen: set[int] = set()

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        given = {tensor.untyped_storage()._cdata for tensor in _tensors_in((args, kwargs or {}))}
        result = func(*args, **(kwargs or {}))
        for tensor in _tensors_in(result):
            storage = tensor.untyped_storage()
            if storage._cdata not in given | self._seen:
                self._count(storage)
        return result

    def _count(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        self._seen.add(key)
        self._live_bytes += size
        self.peak_bytes = max(self.peak_bytes, self._live_bytes)
        weakref.finalize(storage, self._forget, key, size)

    def _forget(self, key: int, size: int) -> None:
        self._seen.discard(key)
        self._live_bytes -= size


def _tensors_in(tree: Any) -> list[Tensor]:
    """Return the tensors with a storage: not those on the meta device, and no weights in oneDNN's own layout."""
    leaves = (leaf for leaf in tree_iter(tree) if isinstance(leaf, Tensor))
    return [leaf for leaf in leaves if leaf.layout == torch.strided and not leaf.is_meta]
