"""Padded batches of images and labels, and loss normalizers over the accumulated batches of a training step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from dl_lib.modeling.losses.cross_entropy import PixelCrossEntropy
from dl_lib.utils import comm
from dl_lib.utils.rounding import round_up

__all__ = [
    "StepMeans",
    "check_label_sizes",
    "check_pixel_range",
    "group_by_padded_size",
    "pad_images",
    "pad_labels",
]


def check_pixel_range(images: Sequence[Tensor]) -> None:
    """Check that no floating-point image has values in 0..1 instead of 0..255; a black image is valid.

    Integer images, those of data loaders, are not inspected. Images on the CPU need no synchronization with a GPU,
    those on a GPU a single one per batch.

    Raises:
        ValueError: If the maximum of an image is above 0 and at most 1.
    """
    peaks = [image.amax() for image in images if image.is_floating_point()]
    for peak in torch.stack([peak.to(peaks[0]) for peak in peaks]).tolist() if peaks else ():
        if 0 < peak <= 1:
            raise ValueError(
                "image must have values in 0..255, the range of MODEL.PIXEL_MEAN and MODEL.PIXEL_STD; multiply images "
                f"in 0..1 by 255. Received: image.max()={peak:g}"
            )


def check_label_sizes(batched_inputs: Sequence[Mapping[str, Any]]) -> None:
    """Raise ValueError if a label differs in size from its image, which padding would hide."""
    for inputs in batched_inputs:
        image, label = inputs["image"].shape, inputs["sem_seg"].shape
        if label != image[-2:]:
            raise ValueError(
                "sem_seg must have the size of the image, for losses. "
                f"Received: sem_seg.shape={tuple(label)}, image.shape={tuple(image)}"
            )


def pad_images(images: Sequence[Tensor], *, divisor: int) -> Tensor:
    """Stack images (C, H, W), zero-padded at the right and bottom to a common size that `divisor` divides."""
    return _pad_and_stack(images, _padded_size(images, divisor=divisor), value=0, dtype=images[0].dtype)


def group_by_padded_size(images: Sequence[Tensor], *, divisor: int) -> tuple[tuple[int, ...], ...]:
    """Return the positions of the images (C, H, W) of each padded size: a batch of these pads no image further."""
    groups: dict[tuple[int, ...], tuple[int, ...]] = {}
    for position, image in enumerate(images):
        size = _padded_size([image], divisor=divisor)
        groups[size] = (*groups.get(size, ()), position)
    return tuple(groups.values())


def pad_labels(labels: Sequence[Tensor], *, size: Sequence[int], ignore_value: int) -> Tensor:
    """Stack integer label maps (H, W) as int64, padded at the right and bottom with `ignore_value`."""
    return _pad_and_stack(labels, size, value=ignore_value, dtype=torch.int64)


def _padded_size(images: Sequence[Tensor], *, divisor: int) -> tuple[int, ...]:
    """Return the smallest (height, width) that contains all images and that `divisor` divides."""
    sides = zip(*(image.shape[-2:] for image in images), strict=True)
    return tuple(round_up(max(side), divisor) for side in sides)


def _pad_and_stack(maps: Sequence[Tensor], size: Sequence[int], *, value: int, dtype: torch.dtype) -> Tensor:
    """Return maps (..., H, W) as one contiguous (N, ..., *size), whatever their memory format."""
    batch = torch.full((len(maps), *maps[0].shape[:-2], *size), value, dtype=dtype, device=maps[0].device)
    for padded, unpadded in zip(batch, maps, strict=True):
        padded[..., : unpadded.shape[-2], : unpadded.shape[-1]] = unpadded
    return batch


@dataclass(eq=False)
class StepMeans:
    """Means over the accumulated batches of a step on all processes; 0-d tensors without gradients.

    Normalized with `label_weight`, the label losses of the batches average to those of the whole step. Costs are known
    only when a batch has run: `cost_so_far` estimates their mean without a second forward pass.

    Attributes:
        label_weight: Cross-entropy weight of a batch's labels.
    """

    label_weight: Tensor
    _costs: list[Tensor] = field(default_factory=list)

    @classmethod
    def of(cls, labels: Sequence[Tensor], *, loss: PixelCrossEntropy, num_batches: int, like: Tensor) -> StepMeans:
        """Average the label weights of the batches over all processes; a collective, every process must call it.

        The means have the dtype and device of `like`.
        """
        weights = [loss.weight_of(label, like=like) for label in labels]
        return cls(comm.average(sum(weights[1:], weights[0]) / num_batches))

    def cost_so_far(self, madds: Tensor) -> Tensor:
        """Return the mean cost of the batches of the step that have run, including this one with a cost of `madds`."""
        self._costs.append(madds)
        return torch.stack(self._costs).mean()
