"""Graphs of networks, by torch.export."""

from __future__ import annotations

from typing import Any

import torch
from torch.export import Dim, ExportedProgram

from dl_lib.inference.exporting.network import TracedNetwork

__all__ = ["MAX_SIDE_PX", "MIN_BLOCKS", "smallest_side", "trace"]

MAX_SIDE_PX = 16384  # of the images of a graph
MIN_BLOCKS = 2  # torch traces a side of 1 as a constant


def smallest_side(size_divisor: int) -> int:
    """Return the smallest side in pixels of images for a graph of any size.

    Sides are padded to multiples of the divisor, and a graph needs at least `MIN_BLOCKS` of them. It is 1 if nothing is
    padded, as for a fixed size and for files that pad images themselves.
    """
    return 1 if size_divisor == 1 else (MIN_BLOCKS - 1) * size_divisor + 1


def trace(network: TracedNetwork, size: tuple[int, int], *, dynamic_size: bool = False) -> ExportedProgram:
    """Return the graph of a network, for any number of images if it `accepts_batches`, otherwise for one image.

    Args:
        network: Network to trace.
        size: Height and width of the images in pixels.
        dynamic_size: Allow other sizes; sides are multiples of `network.size_divisor`.

    Raises:
        ValueError: If `size` is invalid for a graph of any size.
    """
    shape: dict[int, Any] = {}
    if network.accepts_batches:
        shape[0] = Dim("batch", min=1)
    if dynamic_size:
        divisor = network.size_divisor
        if any(side % divisor or side < MIN_BLOCKS * divisor for side in size):
            raise ValueError(
                f"the sides of a graph for any size must be multiples of {divisor}, the network's size divisor, and at "
                f"least {MIN_BLOCKS * divisor}; pad images first. Received: size={size[0]}x{size[1]}"
            )
        height, width = (Dim(name, min=MIN_BLOCKS, max=MAX_SIDE_PX // divisor) for name in ("rows", "columns"))
        shape |= {2: divisor * height, 3: divisor * width}
    num_images = 2 if network.accepts_batches else 1  # torch.export treats a single image as a constant
    images = network.example(size, num_images=num_images)
    with torch.no_grad():
        return torch.export.export(network.eval(), (images,), dynamic_shapes=(shape,), strict=False)
