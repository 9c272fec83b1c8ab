"""Entry point that runs a function in every process of a run."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any
from urllib.parse import urlsplit

from torch.distributed import TCPStore  # type: ignore[attr-defined]
from torch.distributed.elastic.multiprocessing.errors import record

from dl_lib.config.defaults import DEFAULTS
from dl_lib.launch.process_group import initialized_process_group
from dl_lib.launch.process_info import LaunchError, ProcessInfo
from dl_lib.launch.request import ANY_PORT, ProcessRequest, detect_process_info
from dl_lib.launch.signals import exit_with_parent
from dl_lib.launch.spawning import run_spawned
from dl_lib.launch.temp_folder import use_temp_folder

__all__ = ["launch"]

_LOCALHOST = "127.0.0.1"


def launch(
    main: Callable[..., None],
    request: ProcessRequest | None = None,
    *,
    device: str = "auto",
    timeout_seconds: float = DEFAULTS.PROCESS_TIMEOUT_SECONDS,
    args: Sequence[Any] = (),
) -> None:
    """Run `main(*args)` in every process of a run.

    With one process, or if a launcher has started this one, `main` is called in this process. Otherwise the requested
    processes are spawned. With GPUs, each process uses one GPU and the NCCL backend; without, or with `device="cpu"`,
    the processes share the CPU cores and use gloo.

    Args:
        main: Function at module level, since spawned processes import it.
        request: Processes to start; None means one, or those that torchrun or srun has started.
        device: Device of the run: auto, cpu or cuda.
        timeout_seconds: Timeout of collectives and of the rendezvous.
        args: Arguments of `main`.

    Raises:
        LaunchError: If the processes cannot be started as requested.
        LostProcessError: If a process is killed or does not respond within the timeout.
        SystemExit: As raised by the first process that exits this way; the same applies to KeyboardInterrupt.
        Exception: As raised by `main`, also in a spawned process.
    """
    use_temp_folder()
    request = request or ProcessRequest()
    info = detect_process_info(request)
    if info is not None:
        _run_launched(main, info, device=device, timeout_seconds=timeout_seconds, args=args)
    elif request.world_size > 1:
        _spawn(main, request, device=device, timeout_seconds=timeout_seconds, args=args)
    else:
        main(*args)


def _run_launched(
    main: Callable[..., None], info: ProcessInfo, *, device: str, timeout_seconds: float, args: Sequence[Any]
) -> None:
    if info.launcher == "torchrun":
        exit_with_parent()  # torchrun starts each worker in its own session, which outlives the agent

    @record  # writes the traceback to the error file that torchrun reads
    def run() -> None:
        with (
            nullcontext()
            if info.world_size == 1
            else initialized_process_group(info, device=device, timeout_seconds=timeout_seconds)
        ):
            main(*args)

    run()


def _spawn(
    main: Callable[..., None], request: ProcessRequest, *, device: str, timeout_seconds: float, args: Sequence[Any]
) -> None:
    store, url = None, request.dist_url
    if url == ANY_PORT:
        # Hosting the store in this process holds the port from the moment it is chosen.
        store = TCPStore(_LOCALHOST, 0, is_master=True, wait_for_workers=False)
        url = f"tcp://{_LOCALHOST}:{store.port}"
    elif request.num_machines == 1:
        _check_is_local(url)
    first_info = ProcessInfo(
        "spawn",
        rank=request.machine_rank * request.per_machine,
        world_size=request.world_size,
        local_rank=0,
        init_method=url,
        is_hosted=store is not None,
    )
    run_spawned(
        main,
        num_processes=request.per_machine,
        first_info=first_info,
        device=device,
        timeout_seconds=timeout_seconds,
        args=args,
    )


def _check_is_local(url: str) -> None:
    """Check that the host is this machine; torch would wait for another one until the timeout."""
    host = str(urlsplit(url).hostname)
    try:
        family = socket.getaddrinfo(host, 0)[0][0]
        socket.create_server((host, 0), family=family).close()
    except OSError as error:
        raise LaunchError(
            f"dist_url must name this machine, on which all processes run ({error.strerror or error}); use --dist-url "
            f"auto, or --num-machines. Received: dist_url={url!r}"
        ) from error
