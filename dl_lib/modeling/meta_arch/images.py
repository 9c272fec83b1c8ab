"""Images of any size, and their labels, as one batch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["pad_images", "pad_labels"]


def pad_images(images: Sequence[Tensor], *, divisor: int) -> Tensor:
    """Stacks images (C, H, W), padded with zeros at the right and bottom to a common size that `divisor` divides."""
    height, width = (
        -(-max(side) // divisor) * divisor for side in zip(*(image.shape[-2:] for image in images), strict=True)
    )
    return _padded(images, (height, width), value=0, dtype=images[0].dtype)


def pad_labels(labels: Sequence[Tensor], *, size: Sequence[int], ignore_value: int) -> Tensor:
    """Stacks label maps (H, W) of any integer type as int64, padded at the right and bottom with `ignore_value`."""
    return _padded(labels, size, value=ignore_value, dtype=torch.int64)


def _padded(maps: Sequence[Tensor], size: Sequence[int], *, value: int, dtype: torch.dtype) -> Tensor:
    """Maps (..., H, W) as one (N, ..., *size), contiguous whatever the order of theirs in memory is."""
    batch = torch.full((len(maps), *maps[0].shape[:-2], *size), value, dtype=dtype, device=maps[0].device)
    for padded, one in zip(batch, maps, strict=True):
        padded[..., : one.shape[-2], : one.shape[-1]] = one
    return batch
