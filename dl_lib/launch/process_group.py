"""Joining the other processes of a run, and leaving them."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from urllib.parse import urlsplit

import torch
import torch.distributed as dist
from torch.distributed import PrefixStore, TCPStore  # type: ignore[attr-defined]

from dl_lib.launch.errors import LaunchError, LostProcessError
from dl_lib.launch.process_info import ProcessInfo
from dl_lib.utils import comm

__all__ = ["initialized_process_group", "uses_gpu"]

_HEAD_START_SECONDS = 1.0  # for the process that failed, before those who lost it report that they did
_LAST_EXCHANGE_SECONDS = 0.1
# What gloo says, in plain RuntimeErrors: pieces of its files' paths and of its messages.
_LOST = re.compile(r"gloo/transport|pair closure|by peer", re.IGNORECASE)


@contextmanager
def initialized_process_group(info: ProcessInfo, *, device: str, timeout_seconds: float) -> Iterator[None]:
    """Inside, this process talks with the others of its run: through NCCL about what is on GPUs, else through gloo.

    Args:
        info: of this process among them.
        device: that the run asks for: auto, cpu or cuda. With GPUs the process gets one of its own, as the current one.
        timeout_seconds: how long it waits for the others.

    Raises:
        LaunchError: if there is no GPU for this process.
        LostProcessError: if the others cannot be reached, or one of them ends or does not answer in time.
    """
    on_gpu = uses_gpu(device)
    if on_gpu:
        torch.cuda.set_device(_gpu_of(info))
    _meet(info, backend="cpu:gloo,cuda:nccl" if on_gpu else "gloo", timeout=timedelta(seconds=timeout_seconds))
    try:
        yield
    except SystemExit:  # they have agreed to leave, each in good order
        _leave()
        raise
    except RuntimeError as error:
        # The group is left as it is: NCCL would wait for operations that nobody will take part in any more.
        if not _is_lost(error):
            raise
        time.sleep(_HEAD_START_SECONDS)
        raise LostProcessError(
            f"process {info.rank} of {info.world_size} goes no further without the others: one of them has ended, or "
            f"has not answered for {timeout_seconds:g} s (PROCESS_TIMEOUT_SECONDS). What happened to it is in its own "
            f"log, log.txt or log_rankN.txt in the run's folder. Received: {error}"
        ) from error
    _leave()


def _leave() -> None:
    # Gloo's thread needs Python's lock to let go of the last exchange's tensors, and torch 2.6 keeps the lock while it
    # waits for that thread. Who sleeps gives it away.
    time.sleep(_LAST_EXCHANGE_SECONDS)
    dist.destroy_process_group()


def uses_gpu(device: str) -> bool:
    """Whether a run on this device (auto, cpu, cuda) takes GPUs."""
    return device != "cpu" and torch.cuda.is_available()


def _gpu_of(info: ProcessInfo) -> int:
    """Index of the process's GPU."""
    available = torch.cuda.device_count()
    if info.launcher == "srun" and available == 1:
        return 0  # --gpus-per-task shows each task no other than its own
    if info.local_rank >= available:
        raise LaunchError(
            "each process takes a GPU of its own, and there are too few: start fewer processes on this machine, or "
            f"let them work on the CPU with --device cpu. Received: process {info.local_rank} of this machine "
            f"(counted from 0), {available} GPUs, started by {info.launcher}"
        )
    return info.local_rank


def _meet(info: ProcessInfo, *, backend: str, timeout: timedelta) -> None:
    try:
        if info.is_hosted:
            address = urlsplit(info.init_method)
            server = TCPStore(str(address.hostname), int(address.port or 0), is_master=False, timeout=timeout)
            store = PrefixStore(info.attempt, server)
            dist.init_process_group(backend, store=store, rank=info.rank, world_size=info.world_size, timeout=timeout)
        else:
            dist.init_process_group(
                backend,
                init_method=info.init_method,
                rank=info.rank,
                world_size=info.world_size,
                timeout=timeout,
            )
        comm.synchronize()  # a process that cannot be reached is noticed now, not in the first step
    except RuntimeError as error:
        raise LostProcessError(
            f"process {info.rank} of {info.world_size}, started by {info.launcher}, could not meet the others "
            f"within {timeout.total_seconds():g} s (PROCESS_TIMEOUT_SECONDS). Each of them must be started, and must "
            f"reach the machine of process 0 at this address. Received: {info.init_method}, {error}"
        ) from error


def _is_lost(error: RuntimeError) -> bool:
    return isinstance(error, dist.DistError) or _LOST.search(str(error)) is not None
