"""Feature-map utilities shared by layers: shape, memory format, global mean, drop path, autocast."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["ShapeSpec", "drop_path", "global_mean", "is_channels_last", "without_autocast"]


@dataclass(frozen=True)
class ShapeSpec:
    """Shape (B, channels, H / stride, W / stride) of a feature map of images (B, 3, H, W)."""

    channels: int
    stride: int


def is_channels_last(x: Tensor) -> bool:
    """Return whether feature maps (B, C, H, W) are in channels-last order only.

    Feature maps of one pixel or one channel, which are contiguous in both orders, do not count.
    """
    return x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()


def global_mean(x: Tensor, *, dtype: torch.dtype) -> Tensor:
    """Return the means (B, C) of feature maps (B, C, H, W) in this dtype, computed in float32 or higher."""
    # The gradient of `sum` is an expanded view, which costs nothing; that of `mean` allocates a full feature map.
    total = x.sum(dim=(2, 3), dtype=torch.promote_types(dtype, torch.float32))
    return (total / (x.shape[2] * x.shape[3])).to(dtype)


def drop_path(x: Tensor, drop_prob: Tensor | float) -> Tensor:
    """Zero random images of a batch (drop path, also stochastic depth, arXiv 1603.09382).

    The other images are divided by 1 - drop_prob, which preserves the mean. Unlike torchvision's `stochastic_depth`,
    it accepts the probability as a tensor, so that a compiled graph is not recompiled when it changes.

    Args:
        x: Feature maps (B, ...).
        drop_prob: Probability of dropping an image, below 1; a number or a 0-d tensor.
    """
    kept = torch.rand(x.shape[0], device=x.device) >= drop_prob
    weight = kept / (1 - drop_prob)
    return x * weight.to(x.dtype).view(-1, *[1] * (x.ndim - 1))


def without_autocast(x: Tensor) -> AbstractContextManager[None]:
    """Return a context that disables autocast on the device of `x`."""
    device = x.device.type
    # torch.amp.is_autocast_available would also do, but torch 2.6 cannot compile it. The meta device has no autocast.
    return nullcontext() if device == "meta" else torch.autocast(device, enabled=False)
