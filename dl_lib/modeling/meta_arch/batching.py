"""Padded batches of images and labels, and loss normalizers over the accumulated batches of a training step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dl_lib.modeling.losses.cross_entropy import PixelCrossEntropy
from dl_lib.utils import comm

__all__ = ["StepMeans", "pad_images", "pad_labels"]


def pad_images(images: Sequence[Tensor], *, divisor: int) -> Tensor:
    """Stack images (C, H, W), zero-padded at the right and bottom to a common size that `divisor` divides."""
    height, width = (
        -(-max(side) // divisor) * divisor for side in zip(*(image.shape[-2:] for image in images), strict=True)
    )
    return _pad_and_stack(images, (height, width), value=0, dtype=images[0].dtype)


def pad_labels(labels: Sequence[Tensor], *, size: Sequence[int], ignore_value: int) -> Tensor:
    """Stack integer label maps (H, W) as int64, padded at the right and bottom with `ignore_value`."""
    return _pad_and_stack(labels, size, value=ignore_value, dtype=torch.int64)


def _pad_and_stack(maps: Sequence[Tensor], size: Sequence[int], *, value: int, dtype: torch.dtype) -> Tensor:
    """Return maps (..., H, W) as one contiguous (N, ..., *size), whatever their memory format."""
    batch = torch.full((len(maps), *maps[0].shape[:-2], *size), value, dtype=dtype, device=maps[0].device)
    for padded, unpadded in zip(batch, maps, strict=True):
        padded[..., : unpadded.shape[-2], : unpadded.shape[-1]] = unpadded
    return batch


@dataclass(frozen=True, eq=False)
class StepMeans:
    """Means over the accumulated batches of a step on all processes; 0-d tensors without gradients.

    Normalized with these means, the losses of the batches average to the loss of the whole step.

    Attributes:
        label_weight: Cross-entropy weight of a batch's labels.
        expected_madds: Expected cost of an image; None without an active budget.
    """

    label_weight: Tensor
    expected_madds: Tensor | None = None

    @classmethod
    def of(cls, labels: Sequence[Tensor], *, loss: PixelCrossEntropy, num_batches: int, like: Tensor) -> StepMeans:
        """Average the label weights of the batches over all processes; a collective, every process must call it.

        The means have the dtype and device of `like`.
        """
        weights = [loss.weight_of(label, like=like) for label in labels]
        return cls(comm.average(sum(weights[1:], weights[0]) / num_batches))
