"""Starting the processes of a run, or joining those that a launcher has started."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

from torch.distributed import TCPStore  # type: ignore[attr-defined]
from torch.distributed.elastic.multiprocessing.errors import record

from dl_lib.config.defaults import DEFAULTS
from dl_lib.launch.parent import exit_with_parent
from dl_lib.launch.process_group import initialized_process_group
from dl_lib.launch.process_info import ProcessInfo
from dl_lib.launch.request import ANY_PORT, ProcessRequest, detect_process_info
from dl_lib.launch.spawning import run_spawned

__all__ = ["launch"]

_HERE = "127.0.0.1"


def launch(
    main: Callable[..., None],
    request: ProcessRequest | None = None,
    *,
    device: str = "auto",
    timeout_seconds: float = DEFAULTS.PROCESS_TIMEOUT_SECONDS,
    args: Sequence[Any] = (),
) -> None:
    """Calls `main(*args)` in every process of a run; here and now if there is only one, or a launcher has started it.

    With GPUs each process takes one, and they talk through NCCL; without, or with `device="cpu"`, they share the cores
    and talk through gloo.

    Args:
        main: at the top level of a module, as new processes import it.
        request: the processes to start; None is one, or those that torchrun or srun have started.
        device: that the run asks for: auto, cpu or cuda.
        timeout_seconds: how long a process waits for another in whatever they do together.
        args: passed to `main`.

    Raises:
        LaunchError: if the processes cannot be started as they are asked for.
        LostProcessError: if one of them was ended from outside, or does not answer in time.
        SystemExit: as the first process to leave that way did; KeyboardInterrupt likewise.
        Exception: what `main` raised, also where it did so in another process that this one has started.
    """
    request = request or ProcessRequest()
    info = detect_process_info(request)
    if info is not None:
        _run_launched(main, info, device=device, timeout_seconds=timeout_seconds, args=args)
    elif request.world_size > 1:
        _start(main, request, device=device, timeout_seconds=timeout_seconds, args=args)
    else:
        main(*args)


def _run_launched(
    main: Callable[..., None], info: ProcessInfo, *, device: str, timeout_seconds: float, args: Sequence[Any]
) -> None:
    if info.launcher == "torchrun":
        exit_with_parent()  # torchrun gives its workers sessions of their own, which outlive it

    @record  # into the file that torchrun looks for the traceback of a worker in
    def run() -> None:
        alone = info.world_size == 1
        with (
            nullcontext() if alone else initialized_process_group(info, device=device, timeout_seconds=timeout_seconds)
        ):
            main(*args)

    run()


def _start(
    main: Callable[..., None], request: ProcessRequest, *, device: str, timeout_seconds: float, args: Sequence[Any]
) -> None:
    store, url = None, request.dist_url
    if url == ANY_PORT:
        # Kept by this process, the port is taken from the moment on that it is known.
        store = TCPStore(_HERE, 0, is_master=True, wait_for_workers=False)
        url = f"tcp://{_HERE}:{store.port}"
    first = ProcessInfo(
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
        first=first,
        device=device,
        timeout_seconds=timeout_seconds,
        args=args,
    )
