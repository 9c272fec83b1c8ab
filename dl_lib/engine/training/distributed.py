"""DistributedDataParallel wrapping, and synchronization of buffers before evaluation."""

from __future__ import annotations

import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from dl_lib.utils import comm

__all__ = ["broadcast_buffers", "wrap_distributed"]


def wrap_distributed(model: nn.Module) -> nn.Module:
    """Wrap a model in DistributedDataParallel; return it unchanged with one process.

    `find_unused_parameters` stays off, which saves a traversal of the graph in each step: training computes every cell,
    and cells with closed gates get zero gradients. Each forward pass broadcasts the main process's buffers, so norms
    that are not synchronized share one set of running statistics until the step updates them; see `broadcast_buffers`.
    """
    if comm.get_world_size() == 1:
        return model
    device = next(model.parameters()).device
    return DistributedDataParallel(model, device_ids=[device.index] if device.type == "cuda" else None)


def broadcast_buffers(model: nn.Module) -> None:
    """Copy the main process's running statistics, which are the ones saved, to all processes; a collective.

    Norms that are not synchronized have seen different images in the last step, and their EMA has diverged between
    processes since the start of training.
    """
    if comm.get_world_size() > 1:
        for buffer in model.buffers():
            if buffer.is_floating_point():
                dist.broadcast(buffer, src=0)
