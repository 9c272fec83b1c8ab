"""How a model is wrapped when several processes train it together, and made one again before they evaluate it."""

from __future__ import annotations

import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from dl_lib.utils import comm

__all__ = ["take_main_buffers", "wrap_distributed"]


def wrap_distributed(model: nn.Module) -> nn.Module:
    """Lets the processes average their gradients; a run of one process gets its model back as it is.

    Parameters without a gradient are not looked for (`find_unused_parameters`), which would cost a walk over the
    graph in each step: training computes every cell, and a cell that its gates silence gets gradients of zero.
    Before each step all take the main process's buffers, so that norms that are not synchronised keep one set of
    running statistics, the one that is saved. The step itself parts them, see `take_main_buffers`.

    Args:
        model: on the device that it trains on.
    """
    if comm.get_world_size() == 1:
        return model
    device = next(model.parameters()).device
    return DistributedDataParallel(model, device_ids=[device.index] if device.type == "cuda" else None)


def take_main_buffers(model: nn.Module) -> None:
    """Gives all processes the main one's running statistics, which are those that it saves; every process calls it.

    Norms that are not synchronised have seen each process's own images in the last step, and their averages over the
    training have drifted apart since its start.

    Args:
        model: not wrapped for several processes; its buffers of floating-point numbers are changed.
    """
    if comm.get_world_size() > 1:
        for buffer in model.buffers():
            if buffer.is_floating_point():
                dist.broadcast(buffer, src=0)
