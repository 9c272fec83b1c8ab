"""Talking between the processes of a run; all of it also works, and costs nothing, where there is only one.

Thin over torch.distributed. Calls that every process has to make say so: one that stays away leaves the others waiting.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

__all__ = [
    "all_gather",
    "average",
    "broadcast",
    "get_rank",
    "get_world_size",
    "is_main_process",
    "single_process",
    "synchronize",
    "unwrap",
]

Data = TypeVar("Data")

_is_single_process = False  # see `single_process`


def get_rank() -> int:
    """This process's number over all machines; 0 is the main process."""
    return dist.get_rank() if _is_distributed() else 0


def get_world_size() -> int:
    """How many processes the run has, over all machines."""
    return dist.get_world_size() if _is_distributed() and not _is_single_process else 1


@contextmanager
def single_process() -> Iterator[None]:
    """Inside, this process exchanges nothing with the others, for what not all of them do equally often."""
    global _is_single_process
    before, _is_single_process = _is_single_process, True
    try:
        yield
    finally:
        _is_single_process = before


def is_main_process() -> bool:
    """Whether this is the process that writes files and talks to the terminal."""
    return get_rank() == 0


def synchronize() -> None:
    """Waits until every process has come here; every process has to call it."""
    if get_world_size() > 1:
        dist.barrier()


def all_gather(data: Data) -> list[Data]:
    """Everyone's data, in the order of the ranks; every process has to call it.

    Args:
        data: anything that can be pickled.
    """
    if get_world_size() == 1:
        return [data]
    gathered: list[Data] = [data] * get_world_size()
    dist.all_gather_object(gathered, data)
    return gathered


def broadcast(data: Data) -> Data:
    """The main process's data; every process has to call it.

    Args:
        data: anything that can be pickled.
    """
    if get_world_size() == 1:
        return data
    holder = [data]
    dist.broadcast_object_list(holder, src=0)
    return holder[0]


def average(values: Tensor) -> Tensor:
    """Mean over the processes, element by element; every process has to call it.

    Args:
        values: floating point, of equal shape and device type everywhere; is not changed.
    """
    if get_world_size() == 1:
        return values
    total = values.clone()
    dist.all_reduce(total)
    return total / get_world_size()


def unwrap(model: nn.Module) -> nn.Module:
    """The model itself, whether it is wrapped for several processes or not."""
    return model.module if isinstance(model, DistributedDataParallel) else model


def _is_distributed() -> bool:
    return dist.is_available() and dist.is_initialized()
