"""Spawned processes of a run on this machine, and the parent process that waits for them."""

from __future__ import annotations

import os
import pickle
import signal
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch.multiprocessing.spawn import ProcessContext, ProcessException, ProcessExitedException, spawn

from dl_lib.launch.process_group import initialized_process_group, uses_gpu
from dl_lib.launch.process_info import LostProcessError, ProcessInfo
from dl_lib.launch.signals import SignalForwarder, exit_with_parent
from dl_lib.launch.temp_folder import hold_temp_folder, use_temp_folder
from dl_lib.utils.files import write_atomically
from dl_lib.utils.standard_streams import tolerant_streams

__all__ = ["run_spawned"]

_ERROR_SUFFIX = ".pickle"
# After one process fails: time for the others to exit, then again after SIGTERM; then they receive SIGKILL.
_GRACE_SECONDS = 10.0
# Likely causes of signals that this run did not send. Source of the second: TORCH_NCCL_ASYNC_ERROR_HANDLING in
# https://docs.pytorch.org/docs/stable/torch_nccl_environment_variables.html
_SIGNAL_CAUSES = {
    "SIGKILL": " The kernel sends it when memory runs out; see the kernel log.",
    "SIGABRT": " With NCCL, torch sends it when another process has not responded for PROCESS_TIMEOUT_SECONDS.",
}


def run_spawned(
    main: Callable[..., None],
    *,
    num_processes: int,
    first_info: ProcessInfo,
    device: str,
    timeout_seconds: float,
    args: Sequence[Any],
) -> None:
    """Run `main(*args)` in new processes and wait for them, as `launch` describes; stop signals are forwarded to them.

    `first_info` belongs to the first process; the others have consecutive ranks.
    """
    temp_folder = use_temp_folder()
    with tempfile.TemporaryDirectory(dir=temp_folder) as folder, SignalForwarder() as forwarder:
        shared = (main, num_processes, first_info, device, timeout_seconds, Path(folder), tuple(args))
        before, tempfile.tempdir = tempfile.tempdir, str(temp_folder)  # of torch's error files
        try:
            processes = spawn(_run_worker, args=shared, nprocs=num_processes, join=False)
        finally:
            tempfile.tempdir = before
        forwarder.forward_to(processes.pids())
        _wait(processes, error_folder=Path(folder), forwarder=forwarder)


def _run_worker(
    local_rank: int,
    main: Callable[..., None],
    num_processes: int,
    first_info: ProcessInfo,
    device: str,
    timeout_seconds: float,
    error_folder: Path,
    args: tuple[Any, ...],
) -> None:
    exit_with_parent()
    hold_temp_folder(use_temp_folder())
    os.setsid()  # signals of the terminal arrive only once, through the forwarder
    if not uses_gpu(device) and "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, torch.get_num_threads() // num_processes))
    info = replace(first_info, rank=first_info.rank + local_rank, local_rank=local_rank)
    error_path = error_folder / f"{local_rank}{_ERROR_SUFFIX}"
    try:
        with (
            tolerant_streams(),
            initialized_process_group(info, device=device, timeout_seconds=timeout_seconds),
        ):
            main(*args)
    except (SystemExit, KeyboardInterrupt) as error:
        # Exits with status 0: at any other status torch would terminate the other processes while they exit.
        _store_error(error, error_path)
    except Exception as error:
        _store_error(error, error_path)
        raise


def _wait(processes: ProcessContext, *, error_folder: Path, forwarder: SignalForwarder) -> None:
    """Wait for the processes; raise the first error, after terminating the other processes."""
    failure: ProcessException | None = None
    try:
        while not processes.join(grace_period=_GRACE_SECONDS):
            pass
    except ProcessException as error:
        failure = error
    if isinstance(failure, ProcessExitedException):
        # `failure` has the pid too, but under different attribute names in different torch versions.
        _raise_exited(failure, process_id=processes.pids()[failure.error_index], forwarder=forwarder)
    # The earliest error is the cause: later ones may only report the lost connection.
    errors = [pickle.loads(file.read_bytes()) for file in error_folder.glob(f"*{_ERROR_SUFFIX}")]
    if errors:
        _, pickled = min(errors)
        raise pickle.loads(pickled) from failure
    if failure is not None:
        raise failure


def _raise_exited(failure: ProcessExitedException, *, process_id: int, forwarder: SignalForwarder) -> NoReturn:
    """Raise the error for a process that exited without an exception: stopped by a forwarded signal, or killed."""
    if forwarder.received == signal.SIGINT:
        raise KeyboardInterrupt from failure
    if forwarder.received is not None:
        raise SystemExit(128 + forwarder.received) from failure
    raise LostProcessError(
        f"local rank {failure.error_index} exited unexpectedly, and the other processes were terminated."
        f"{_SIGNAL_CAUSES.get(failure.signal_name or '', '')} "
        f"Received: {failure.signal_name or f'exit status {failure.exit_code}'}, pid {process_id}"
    ) from failure


def _store_error(error: BaseException, path: Path) -> None:
    write_atomically(path, pickle.dumps((time.time_ns(), _pickled(error))))


def _pickled(error: BaseException) -> bytes:
    """Pickle the error or, if that fails, an instance of its nearest base class with the same message."""
    bases = [base for base in type(error).__mro__ if issubclass(base, BaseException)]
    candidates: list[Callable[[], BaseException]] = [lambda: error, *(partial(base, str(error)) for base in bases)]
    for make in candidates:
        try:
            content = pickle.dumps(make())
            pickle.loads(content)
        except Exception:  # constructor arguments and attributes of an error are arbitrary
            continue
        return content
    raise AssertionError("unreachable: BaseException can be created from its message and pickled")
