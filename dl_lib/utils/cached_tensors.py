"""Cache of small constant tensors per device."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor

__all__ = ["cached_tensor"]


def cached_tensor(values: tuple[Any, ...], *, dtype: torch.dtype, like: Tensor) -> Tensor:
    """Return a read-only tensor of the values on the device of `like`; equal arguments return the same tensor.

    The values are numbers or nested tuples. `torch.tensor` copies from host to device on every call, which synchronizes
    with a GPU.
    """
    # A compiled graph stores its own constants; a fake tensor must be created in its own mode.
    if torch.compiler.is_compiling() or type(like) is not Tensor:
        return torch.tensor(values, dtype=dtype, device=like.device)
    return _cached(values, dtype, like.device)


@cache
@torch.inference_mode(False)  # an inference tensor, first requested in evaluation, could not take part in autograd
def _cached(values: tuple[Any, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    return torch.tensor(values, dtype=dtype, device=device)
