"""Copies of modules on the meta device: shapes and dtypes without memory or computation."""

from __future__ import annotations

import copy
from typing import TypeVar

import torch
from torch import Tensor, nn

__all__ = ["meta_copy"]

Module = TypeVar("Module", bound=nn.Module)


def meta_copy(module: Module) -> Module:
    """Return a copy in evaluation mode whose tensors are on the meta device; allocates no memory for their values.

    The copy has no forward hooks: those of the module, such as fvcore's in precise batch norm, observe its own calls.
    """
    memo: dict[int, Tensor] = {id(b): torch.empty_like(b, device="meta") for b in module.buffers()}
    for p in module.parameters():
        memo[id(p)] = nn.Parameter(torch.empty_like(p, device="meta"), requires_grad=False)
    copied = copy.deepcopy(module, memo).eval()
    for part in copied.modules():
        part._forward_pre_hooks.clear()
        part._forward_hooks.clear()
    return copied
