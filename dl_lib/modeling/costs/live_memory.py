"""Live memory: bytes of the tensors that exist at the same time, counted while operations run."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

__all__ = ["LiveMemory"]


class LiveMemory(TorchDispatchMode):
    """Dispatch mode that counts the storages returned by operations until they are freed.

    Memory that an operation allocates and frees internally is not counted. Fake tensors count as much as real ones.
    `MemTracker` of torch.distributed gives the same peak, but takes minutes for a large network, because it keeps
    records for every module.

    Args:
        device: Device whose storages are counted; None counts those of all devices.

    Attributes:
        live_bytes: Memory of the storages that exist now.
        peak_bytes: Largest memory of the storages that existed at the same time.
    """

    def __init__(self, device: torch.device | None = None) -> None:
        super().__init__()
        self.peak_bytes = self.live_bytes = 0
        self._device = device
        self._seen: set[int] = set()

    def track(self, tensors: Iterable[Tensor]) -> None:
        """Count the storages of tensors that exist already."""
        for tensor in self._countable(tensors):
            self._count(tensor.untyped_storage())

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        given = {tensor.untyped_storage()._cdata for tensor in self._countable((args, kwargs or {}))}
        result = func(*args, **(kwargs or {}))
        for tensor in self._countable(result):
            storage = tensor.untyped_storage()
            if storage._cdata not in given:
                self._count(storage)
        return result

    def _count(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self._seen:
            return
        self._seen.add(key)
        self.live_bytes += size
        self.peak_bytes = max(self.peak_bytes, self.live_bytes)
        weakref.finalize(storage, self._forget, key, size)

    def _forget(self, key: int, size: int) -> None:
        self._seen.discard(key)
        self.live_bytes -= size

    def _countable(self, tree: Any) -> list[Tensor]:
        """Return the tensors with a storage: not those on the meta device, and no weights in oneDNN's own layout."""
        leaves = (leaf for leaf in tree_iter(tree) if isinstance(leaf, Tensor))
        return [
            leaf
            for leaf in leaves
            if leaf.layout == torch.strided and not leaf.is_meta and self._device in (None, leaf.device)
        ]
