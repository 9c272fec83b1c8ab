"""Images of any size as one batch, and logits back at the size that each image asks for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import interpolate, pad

__all__ = ["pad_images", "pad_labels", "resize_to_request"]


def pad_images(images: Sequence[Tensor], *, divisor: int) -> Tensor:
    """Stacks images (C, H, W), padded with zeros at the right and bottom to a common size that `divisor` divides."""
    height, width = (
        -(-max(side) // divisor) * divisor for side in zip(*(image.shape[-2:] for image in images), strict=True)
    )
    return torch.stack([_pad(image, height, width, value=0) for image in images])


def pad_labels(labels: Sequence[Tensor], *, size: Sequence[int], ignore_value: int) -> Tensor:
    """Stacks label maps (H, W), padded at the right and bottom with `ignore_value` to `size`."""
    return torch.stack([_pad(label, *size, value=ignore_value) for label in labels])


def _pad(x: Tensor, height: int, width: int, *, value: float) -> Tensor:
    return pad(x, (0, width - x.shape[-1], 0, height - x.shape[-2]), value=value)


def resize_to_request(logits: Tensor, request: Mapping[str, Any]) -> Tensor:
    """Cuts the padding off logits (classes, H, W) and resizes them bilinearly to the request's height and width.

    A request without them gets its image's own size.
    """
    image_height, image_width = request["image"].shape[-2:]
    size = (request.get("height", image_height), request.get("width", image_width))
    logits = logits[:, :image_height, :image_width]
    return (
        logits
        if logits.shape[-2:] == size
        else interpolate(logits[None], size=size, mode="bilinear", align_corners=False)[0]
    )
