"""Check that all processes of a run start from the same iteration and weights."""

from __future__ import annotations

import zlib

import torch
from torch import nn

from dl_lib.checkpoint import CheckpointError
from dl_lib.utils import comm

__all__ = ["check_consistent_start"]


def check_consistent_start(model: nn.Module, *, iteration: int, folder: str) -> None:
    """Check that all processes have loaded the same iteration and weights; every process must call it.

    Each process reads checkpoints itself; on a machine that does not share the run folder it finds none. Different
    weights would stay different, because only gradients are synchronized.

    Raises:
        CheckpointError: If a process differs from rank 0.
    """
    if comm.get_world_size() == 1:
        return
    starts = comm.all_gather((iteration, _checksum(model)))
    others = [rank for rank, start in enumerate(starts) if start != starts[0]]
    if others:
        iterations = [iteration for iteration, _ in starts]
        different = "" if len(set(iterations)) > 1 else " with different weights"
        raise CheckpointError(
            f"OUTPUT_DIR and MODEL.WEIGHTS must give every process the same checkpoint; ranks "
            f"{', '.join(map(str, others))} differ from rank 0. Put the files on storage that all machines share. "
            f"Received: OUTPUT_DIR={folder!r}, iterations={iterations}{different}"
        )


def _checksum(model: nn.Module) -> int:
    """Return the CRC-32 of all weights and buffers."""
    checksum = 0
    for value in model.state_dict().values():
        values = value.detach().cpu().contiguous().flatten()  # a 0-d tensor cannot be viewed as bytes
        checksum = zlib.crc32(values.view(torch.uint8).numpy(), checksum)
    return checksum
