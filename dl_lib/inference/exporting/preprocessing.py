"""Preprocessing inside and outside of exported files: normalization, padding, class indices of logits."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from dl_lib.data.catalog import MAX_UINT8_CLASSES
from dl_lib.inference.exporting.metadata import ExportMetadata
from dl_lib.inference.exporting.network import ExportedNetwork, TracedNetwork

__all__ = ["CHANNELS", "PreprocessedNetwork", "file_input", "fits_a_byte", "normalized"]

CHANNELS = {"RGB": (0, 1, 2), "BGR": (2, 1, 0)}


def file_input(image: Tensor, metadata: ExportMetadata) -> np.ndarray:
    """Return the input of an exported file for one image (3, H, W), uint8 in the channel order of the metadata."""
    if metadata.with_preprocessing:
        planes = image.byte()[[*CHANNELS[metadata.channel_order]]]
        return planes.permute(1, 2, 0)[None].contiguous().numpy()
    divisor = metadata.size_divisor
    height, width = image.shape[-2:]
    return pad(normalized(image, metadata)[None], (0, -width % divisor, 0, -height % divisor)).numpy()


def normalized(image: Tensor, metadata: ExportMetadata) -> Tensor:
    """Return images (..., 3, H, W) in float32 with the mean subtracted, divided by the standard deviation."""
    mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (metadata.pixel_mean, metadata.pixel_std))
    return (image - mean) / std


class PreprocessedNetwork(TracedNetwork):
    """Network from images (N, H, W, 3), uint8 RGB, to class indices (N, H, W), for graphs of torch.export.

    Args:
        network: Network to wrap.
        metadata: Metadata with the preprocessing.
    """

    def __init__(self, network: ExportedNetwork, metadata: ExportMetadata) -> None:
        super().__init__()
        self.network, self._metadata = network, metadata
        self.size_divisor = network.size_divisor

    @property
    def accepts_batches(self) -> bool:
        return self.network.accepts_batches

    def example(self, size: tuple[int, int], *, num_images: int) -> Tensor:
        return torch.zeros(num_images, *size, 3, dtype=torch.uint8)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Return the class indices, and the other outputs of the network."""
        planes = image.permute(0, 3, 1, 2)
        if self._metadata.channel_order == "BGR":
            planes = planes.flip(1)
        logits, *others = self.network(normalized(planes, self._metadata))
        dtype = torch.uint8 if fits_a_byte(self._metadata) else torch.int32
        return (logits.argmax(dim=1).to(dtype), *others)


def fits_a_byte(metadata: ExportMetadata) -> bool:
    """Return whether class indices are uint8; they are int32 otherwise."""
    return metadata.meta.num_classes <= MAX_UINT8_CLASSES
