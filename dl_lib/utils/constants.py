"""Tables of numbers that are brought to a device once."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor

__all__ = ["constant"]


def constant(values: tuple[Any, ...], *, dtype: torch.dtype, like: Tensor) -> Tensor:
    """The numbers as a tensor where `like` is, to be read only: all that ask for the same get the same.

    A copy from the host to a GPU, which `torch.tensor` makes each time, waits for all that the GPU still has to do.

    Args:
        values: numbers, or tuples of them.
        dtype: of the tensor.
        like: on whose device it is.
    """
    if torch.compiler.is_compiling() or type(like) is not Tensor:  # a graph keeps its own; a fake one is of its mode
        return torch.tensor(values, dtype=dtype, device=like.device)
    return _kept(values, dtype, like.device)


@cache
@torch.inference_mode(False)  # or one first asked for in an evaluation could take no part in a training
def _kept(values: tuple[Any, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    return torch.tensor(values, dtype=dtype, device=device)
