"""Peak memory of the tensors created in a block."""

import weakref

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter


class LiveMemory(TorchDispatchMode):
    """Dispatch mode that counts the storages returned by operations until they are freed.

    Memory that an operation allocates and frees internally is not counted.
    """

    def __init__(self):
        super().__init__()
        self.peak_bytes = self._live_bytes = 0
        self._seen = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        given = {tensor.untyped_storage()._cdata for tensor in tensors_in((args, kwargs or {}))}
        result = func(*args, **(kwargs or {}))
        for tensor in tensors_in(result):
            storage = tensor.untyped_storage()
            if storage._cdata not in given | self._seen:
                self._count(storage)
        return result

    def _count(self, storage):
        key, size = storage._cdata, storage.nbytes()
        self._seen.add(key)
        self._live_bytes += size
        self.peak_bytes = max(self.peak_bytes, self._live_bytes)
        weakref.finalize(storage, self._forget, key, size)

    def _forget(self, key, size):
        self._seen.discard(key)
        self._live_bytes -= size


def tensors_in(tree):
    return [leaf for leaf in tree_iter(tree) if isinstance(leaf, torch.Tensor)]
