"""How a model is wrapped when several processes train it together."""

from __future__ import annotations

from torch import nn
from torch.nn.parallel import DistributedDataParallel

from dl_lib.utils import comm

__all__ = ["wrap_distributed"]


def wrap_distributed(model: nn.Module) -> nn.Module:
    """Lets the processes average their gradients; a run of one process gets its model back as it is.

    Parameters without a gradient are not looked for (`find_unused_parameters`), which would cost a walk over the
    graph in each step: training computes every cell, and a cell that its gates silence gets gradients of zero.
    Before each step all take the main process's buffers, so that norms that are not synchronised keep one set of
    running statistics, the one that is saved.

    Args:
        model: on the device that it trains on.
    """
    if comm.get_world_size() == 1:
        return model
    device = next(model.parameters()).device
    return DistributedDataParallel(model, device_ids=[device.index] if device.type == "cuda" else None)
