"""Communication between the processes of a run; every function also works, at no cost, with a single process.

A thin layer over torch.distributed. Collectives are documented as such: if one process does not call them, the others
wait until the timeout.
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

_is_single_process = False  # set by `single_process`


def get_rank() -> int:
    """Return the rank of this process over all machines; 0 is the main process."""
    return dist.get_rank() if _is_distributed() else 0


def get_world_size() -> int:
    """Return the number of processes over all machines."""
    return dist.get_world_size() if _is_distributed() and not _is_single_process else 1


@contextmanager
def single_process() -> Iterator[None]:
    """Context manager in which the world size is 1 and nothing is communicated.

    For code that the processes run a different number of times, where collectives would not match.
    """
    global _is_single_process
    before, _is_single_process = _is_single_process, True
    try:
        yield
    finally:
        _is_single_process = before


def is_main_process() -> bool:
    """Return whether this process writes files and logs to the terminal."""
    return get_rank() == 0


def synchronize() -> None:
    """Wait until every process reaches this barrier; collective."""
    if get_world_size() > 1:
        dist.barrier()


def all_gather(data: Data) -> list[Data]:
    """Return the picklable data of all processes, ordered by rank; collective."""
    if get_world_size() == 1:
        return [data]
    gathered: list[Data] = [data] * get_world_size()
    dist.all_gather_object(gathered, data)
    return gathered


def broadcast(data: Data) -> Data:
    """Return the picklable data of the main process; the data of other processes is ignored; collective."""
    if get_world_size() == 1:
        return data
    objects = [data]
    dist.broadcast_object_list(objects, src=0)
    return objects[0]


def average(values: Tensor) -> Tensor:
    """Return the element-wise mean over the processes of a floating-point tensor of the same shape; collective."""
    if get_world_size() == 1:
        return values
    total = values.clone()
    dist.all_reduce(total)
    return total / get_world_size()


def unwrap(model: nn.Module) -> nn.Module:
    """Return the model without its DistributedDataParallel wrapper, if it has one."""
    return model.module if isinstance(model, DistributedDataParallel) else model


def _is_distributed() -> bool:
    return dist.is_available() and dist.is_initialized()
