"""Whether the processes of a run are about to train the same network from the same place."""

from __future__ import annotations

import zlib

import torch
from torch import nn

from dl_lib.checkpoint import CheckpointError
from dl_lib.utils import comm

__all__ = ["check_consistent_start"]


def check_consistent_start(model: nn.Module, *, iteration: int, folder: str) -> None:
    """Refuses processes that have found different checkpoints or weights; every process has to call it.

    Each reads files for itself, and on a machine that does not share the run's folder it would find none. Nothing would
    put the weights together again later: only gradients are exchanged.

    Args:
        model: not wrapped for several processes, after everything has been loaded.
        iteration: from which this process would go on.
        folder: of the run, for the message.

    Raises:
        CheckpointError: if a process differs from the first one.
    """
    if comm.get_world_size() == 1:
        return
    starts = comm.all_gather((iteration, _checksum(model)))
    others = [rank for rank, start in enumerate(starts) if start != starts[0]]
    if others:
        iterations = [iteration for iteration, _ in starts]
        apart = "" if len(set(iterations)) > 1 else " with different weights"
        raise CheckpointError(
            f"the processes {', '.join(map(str, others))} would not start where process 0 does. Each reads the run's "
            "checkpoints (OUTPUT_DIR) and MODEL.WEIGHTS for itself: put them on storage that all machines share. "
            f"Received: OUTPUT_DIR={folder!r}, iterations={iterations}{apart}"
        )


def _checksum(model: nn.Module) -> int:
    """Of all weights and buffers, bit for bit."""
    checksum = 0
    for value in model.state_dict().values():
        values = value.detach().cpu().contiguous().flatten()  # a number without dimensions has no bytes to view
        checksum = zlib.crc32(values.view(torch.uint8).numpy(), checksum)
    return checksum
