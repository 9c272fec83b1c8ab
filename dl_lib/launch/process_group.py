"""Initialization and destruction of the process group of a run."""

from __future__ import annotations

import logging
import re
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from urllib.parse import urlsplit

import torch
import torch.distributed as dist
from torch.distributed import PrefixStore, TCPStore  # type: ignore[attr-defined]

from dl_lib.launch.process_info import LaunchError, LostProcessError, ProcessInfo
from dl_lib.utils import comm

__all__ = ["initialized_process_group", "uses_gpu", "warn_without_gpu"]

_ERROR_DELAY_SECONDS = 1.0  # lets the failed process report first, before the processes that lost it
_LAST_COLLECTIVE_SECONDS = 0.1
# Part of the message of torch's TCPStore.
_NO_SERVER = re.compile(r"server socket has failed to (?:listen|bind).*message: ([^\n]+?)[.\s]*(?:\n|$)", re.DOTALL)
# gloo raises plain RuntimeErrors; these are parts of its source paths and messages.
_LOST = re.compile(r"gloo/transport|pair closure|by peer", re.IGNORECASE)

_log = logging.getLogger(__name__)


@contextmanager
def initialized_process_group(info: ProcessInfo, *, device: str, timeout_seconds: float) -> Iterator[None]:
    """Context manager that initializes the default process group: NCCL for tensors on GPUs, gloo otherwise.

    Args:
        info: Rank information of this process.
        device: Device of the run: auto, cpu or cuda. With GPUs, the process's GPU becomes the current device.
        timeout_seconds: Timeout of collectives and of the rendezvous.

    Raises:
        LaunchError: If there is no GPU for this process, or the init method cannot be used on this machine.
        LostProcessError: If another process cannot be reached, exits, or does not respond within the timeout.
    """
    on_gpu = uses_gpu(device)
    if on_gpu:
        torch.cuda.set_device(_gpu_index(info))
    _initialize(info, backend="cpu:gloo,cuda:nccl" if on_gpu else "gloo", timeout=timedelta(seconds=timeout_seconds))
    try:
        yield
    except SystemExit:  # all processes exit together after an agreed step
        _destroy()
        raise
    except RuntimeError as error:
        # The group is not destroyed: NCCL would wait for collectives that the lost process never joins.
        if not _is_lost(error):
            raise
        time.sleep(_ERROR_DELAY_SECONDS)
        raise LostProcessError(
            f"process {info.rank} of {info.world_size} cannot continue: another process has exited, or has not "
            f"responded for {timeout_seconds:g} s (PROCESS_TIMEOUT_SECONDS). See that process's own log, log.txt or "
            f"log_rankN.txt in the run folder. Received: {error}"
        ) from error
    _destroy()


def _destroy() -> None:
    # gloo's thread needs the GIL to release the tensors of the last collective, and torch 2.6 holds the GIL while it
    # joins that thread. Sleeping releases it.
    time.sleep(_LAST_COLLECTIVE_SECONDS)
    dist.destroy_process_group()


def uses_gpu(device: str) -> bool:
    """Return whether a run on this device (auto, cpu, cuda) uses GPUs."""
    return device != "cpu" and torch.cuda.is_available()


def warn_without_gpu(device: str) -> None:
    """Log a warning if the processes of a run, which use one GPU each, share the CPU cores instead."""
    if comm.is_main_process() and comm.get_world_size() > 1 and device != "cpu" and not uses_gpu(device):
        _log.warning(
            "No GPU available; %d processes share the CPU cores (--device cpu confirms this)", comm.get_world_size()
        )


def _gpu_index(info: ProcessInfo) -> int:
    available = torch.cuda.device_count()
    if info.launcher == "srun" and available == 1:
        return 0  # with --gpus-per-task, each task sees only its own GPU
    if info.local_rank >= available:
        raise LaunchError(
            "each process needs its own GPU, and this machine has too few; start fewer processes on this machine, or "
            f"use --device cpu. Received: local_rank={info.local_rank}, GPUs={available}, launcher={info.launcher}"
        )
    return info.local_rank


def _initialize(info: ProcessInfo, *, backend: str, timeout: timedelta) -> None:
    _check_host(info)
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
        comm.synchronize()  # an unreachable process fails here, not in the first step
    except RuntimeError as error:
        if cause := _NO_SERVER.search(str(error)):
            raise LaunchError(
                f"this machine cannot listen on the port of the init method ({cause[1]}); choose another one, or "
                f"--dist-url auto on a single machine. Received: init_method={info.init_method}"
            ) from error
        raise LostProcessError(
            f"process {info.rank} of {info.world_size}, started by {info.launcher}, could not connect to the others "
            f"within {timeout.total_seconds():g} s (PROCESS_TIMEOUT_SECONDS). Check that all processes are started and "
            "that each machine can reach the init method's host. "
            f"Received: init_method={info.init_method}, {error}"
        ) from error


def _check_host(info: ProcessInfo) -> None:
    """Check that the host of the init method has an address; torch retries until the timeout."""
    host = urlsplit(info.init_method).hostname
    if not host:
        return
    try:
        socket.getaddrinfo(host, None)
    except OSError as error:
        raise LaunchError(
            f"the host of the init method cannot be resolved ({error.strerror or error}); check its name. "
            f"Received: init_method={info.init_method}"
        ) from error


def _is_lost(error: RuntimeError) -> bool:
    return isinstance(error, dist.DistError) or _LOST.search(str(error)) is not None
