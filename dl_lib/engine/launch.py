"""Starting the processes of a run."""

from __future__ import annotations

import logging
import multiprocessing
import pickle
import socket
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.multiprocessing.spawn import ProcessContext, ProcessExitedException, ProcessRaisedException, spawn

from dl_lib.engine.interrupt import TrainingInterrupted
from dl_lib.utils import comm
from dl_lib.utils.files import write_atomically

__all__ = ["LaunchError", "launch"]

_REPORT_SUFFIX = ".pickle"

_log = logging.getLogger(__name__)


class LaunchError(ValueError):
    """Processes that cannot be started as they were asked for."""


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
        LaunchError: if the numbers do not fit together or the machine has fewer GPUs.
        TrainingInterrupted: if the processes ended because of Ctrl-C.
        Exception: what `main` raised, also where it did so in another process.
    """
    per_machine = max(1, num_gpus)
    _check(num_gpus=num_gpus, num_machines=num_machines, machine_rank=machine_rank, dist_url=dist_url)
    world_size = per_machine * num_machines
    if world_size == 1:
        main(*args)
        return
    url = f"tcp://127.0.0.1:{_free_port()}" if dist_url == "auto" else dist_url
    interrupted = multiprocessing.get_context("spawn").Event()
    with tempfile.TemporaryDirectory() as errors:
        shared = (main, per_machine, world_size, machine_rank * per_machine, url, interrupted, errors, tuple(args))
        _join(spawn(_run_process, args=shared, nprocs=per_machine, join=False), errors=Path(errors))
    if interrupted.is_set():
        raise TrainingInterrupted


def _check(*, num_gpus: int, num_machines: int, machine_rank: int, dist_url: str) -> None:
    if not 0 <= machine_rank < num_machines:
        raise LaunchError(
            "machines are numbered from 0 to num_machines - 1. "
            f"Received: machine_rank={machine_rank}, num_machines={num_machines}"
        )
    if num_machines > 1 and dist_url == "auto":
        raise LaunchError(
            "several machines need to be told where they meet: an address of machine 0 and a free port of it, such as "
            f"tcp://10.0.0.1:29500. Received: dist_url='auto', num_machines={num_machines}"
        )
    available = torch.cuda.device_count()
    if num_gpus < 0 or (torch.cuda.is_available() and num_gpus > available):
        raise LaunchError(f"this machine has {available} GPUs. Received: num_gpus={num_gpus}")


def _run_process(
    local_rank: int,
    main: Callable[..., None],
    per_machine: int,
    world_size: int,
    first_rank: int,
    url: str,
    interrupted: Event,
    errors: str,
    args: tuple[Any, ...],
) -> None:
    """The life of one of the processes."""
    on_gpu = torch.cuda.is_available()
    if on_gpu:
        torch.cuda.set_device(local_rank)
    else:
        torch.set_num_threads(max(1, torch.get_num_threads() // per_machine))
        if local_rank == 0:
            _log.warning("no GPU: %d processes share the CPU's cores", per_machine)
    dist.init_process_group(
        "nccl" if on_gpu else "gloo", init_method=url, world_size=world_size, rank=first_rank + local_rank
    )
    try:
        comm.synchronize()  # a process that cannot be reached is noticed now, not in the first step
        main(*args)
    except (TrainingInterrupted, KeyboardInterrupt):
        interrupted.set()  # and no status other than 0, at which the others would be ended in the middle of leaving
    except Exception as error:
        report = pickle.dumps((time.time_ns(), _pickled(error)))
        write_atomically(Path(errors) / f"{local_rank}{_REPORT_SUFFIX}", report)
        raise
    finally:
        dist.destroy_process_group()


def _join(processes: ProcessContext, *, errors: Path) -> None:
    """Waits for the processes; an error in one of them ends the others and is raised here."""
    pressed = False
    while True:
        try:
            if processes.join():
                return
        except KeyboardInterrupt:
            pressed = True  # they got it too, and save before they end
        except ProcessRaisedException as error:
            reports = [pickle.loads(file.read_bytes()) for file in errors.glob(f"*{_REPORT_SUFFIX}")]
            if not reports:  # not even the processes' meeting went well
                raise
            # The first one: the others may only have lost their connection to the process that failed.
            raise pickle.loads(min(reports)[1]) from error
        except ProcessExitedException:
            if pressed:  # one that was still being started
                raise TrainingInterrupted from None
            raise


def _pickled(error: Exception) -> bytes:
    """The error, or the nearest thing to it that comes out of a pickle again: one of a base class, with its text."""
    kinds = [kind for kind in type(error).__mro__ if issubclass(kind, Exception)]
    makers: list[Callable[[], Exception]] = [lambda: error, *(partial(kind, str(error)) for kind in kinds)]
    for make in makers:
        try:
            content = pickle.dumps(make())
            pickle.loads(content)
        except Exception:  # an error may take any arguments and hold anything
            continue
        return content
    raise AssertionError("Exception itself can be made from text and pickled")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
