"""Starting the processes of a run."""

from __future__ import annotations

import logging
import multiprocessing
import socket
from collections.abc import Callable, Sequence
from multiprocessing.synchronize import Event
from typing import Any

import torch
import torch.distributed as dist
from torch.multiprocessing.spawn import ProcessContext, spawn

from dl_lib.engine.interrupt import TrainingInterrupted
from dl_lib.utils import comm

__all__ = ["launch"]


def launch(
    main: Callable[..., None],
    *,
    num_gpus: int,
    num_machines: int = 1,
    machine_rank: int = 0,
    dist_url: str = "auto",
    args: Sequence[Any] = (),
) -> None:
    """Calls `main(*args)` in every process of a run; here and now if there is only one.

    Each process takes one GPU and they talk through NCCL; where there are no GPUs, they are processes on the CPU that
    share its cores and talk through gloo.

    Args:
        main: at the top level of a module, as new processes import it.
        num_gpus: processes on this machine; 0 and 1 are one process.
        num_machines: machines that run the same command.
        machine_rank: number of this machine, from 0.
        dist_url: where the processes meet, such as "tcp://host:port"; "auto" is a free port of this machine.
        args: passed to `main`.

    Raises:
        ValueError: if the numbers do not fit together or the machine has fewer GPUs.
        TrainingInterrupted: if the processes ended because of Ctrl-C.
    """
    per_machine = max(1, num_gpus)
    _check(num_gpus=num_gpus, num_machines=num_machines, machine_rank=machine_rank, dist_url=dist_url)
    world_size = per_machine * num_machines
    if world_size == 1:
        main(*args)
        return
    url = f"tcp://127.0.0.1:{_free_port()}" if dist_url == "auto" else dist_url
    interrupted = multiprocessing.get_context("spawn").Event()
    shared = (main, per_machine, world_size, machine_rank * per_machine, url, interrupted, tuple(args))
    _join(spawn(_run_process, args=shared, nprocs=per_machine, join=False))
    if interrupted.is_set():
        raise TrainingInterrupted


def _check(*, num_gpus: int, num_machines: int, machine_rank: int, dist_url: str) -> None:
    if not 0 <= machine_rank < num_machines:
        raise ValueError(
            "machines are numbered from 0 to num_machines - 1. "
            f"Received: machine_rank={machine_rank}, num_machines={num_machines}"
        )
    if num_machines > 1 and dist_url == "auto":
        raise ValueError(
            "several machines need to be told where they meet: an address of machine 0 and a free port of it, such as "
            f"tcp://10.0.0.1:29500. Received: dist_url='auto', num_machines={num_machines}"
        )
    available = torch.cuda.device_count()
    if num_gpus < 0 or (torch.cuda.is_available() and num_gpus > available):
        raise ValueError(f"this machine has {available} GPUs. Received: num_gpus={num_gpus}")


def _run_process(
    local_rank: int,
    main: Callable[..., None],
    per_machine: int,
    world_size: int,
    first_rank: int,
    url: str,
    interrupted: Event,
    args: tuple[Any, ...],
) -> None:
    """The life of one of the processes."""
    on_gpu = torch.cuda.is_available()
    if on_gpu:
        torch.cuda.set_device(local_rank)
    else:
        torch.set_num_threads(max(1, torch.get_num_threads() // per_machine))
        if local_rank == 0:
            logging.getLogger(__name__).warning("no GPU: %d processes share the CPU's cores", per_machine)
    dist.init_process_group(
        "nccl" if on_gpu else "gloo", init_method=url, world_size=world_size, rank=first_rank + local_rank
    )
    try:
        comm.synchronize()  # a process that cannot be reached is noticed now, not in the first step
        main(*args)
    except TrainingInterrupted:
        interrupted.set()  # and no status other than 0, at which the others would be ended in the middle of leaving
    finally:
        dist.destroy_process_group()


def _join(processes: ProcessContext) -> None:
    """Waits for the processes; an error in one of them ends the others and is raised here."""
    while True:
        try:
            if processes.join():
                return
        except KeyboardInterrupt:
            continue  # they got it too, and save before they end


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
