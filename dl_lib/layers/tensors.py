"""What several layers ask of a map: its memory order, its means, and calculation without autocast."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

__all__ = ["global_mean", "is_channels_last", "without_autocast"]


def is_channels_last(x: Tensor) -> bool:
    """Whether maps (B, C, H, W) lie in channels-last order, and not in the usual one too, as those of one pixel do."""
    return x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()


def global_mean(x: Tensor, *, dtype: torch.dtype) -> Tensor:
    """Means (B, C) over the pixels of maps (B, C, H, W), in this type; computed in float32 at least."""
    # Not `mean`: its gradient is a whole map, in an order of its own; that of a sum is a view, which costs nothing.
    total = x.sum(dim=(2, 3), dtype=torch.promote_types(dtype, torch.float32))
    return (total / (x.shape[2] * x.shape[3])).to(dtype)


def without_autocast(x: Tensor) -> AbstractContextManager[None]:
    """A context in which operations on the device of `x` take the types that they are given."""
    device = x.device.type
    # Not torch.amp.is_autocast_available: torch 2.6 cannot compile the question. There is none on the meta device.
    return nullcontext() if device == "meta" else torch.autocast(device, enabled=False)
