"""Processes on this machine that are started by this one, which waits for them."""

from __future__ import annotations

import logging
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

from dl_lib.launch.errors import LostProcessError
from dl_lib.launch.parent import exit_with_parent
from dl_lib.launch.process_group import initialized_process_group, uses_gpu
from dl_lib.launch.process_info import ProcessInfo
from dl_lib.launch.relay import SignalRelay
from dl_lib.utils.files import write_atomically

__all__ = ["run_spawned"]

_REPORT_SUFFIX = ".pickle"
# For the others when one has failed: so long to end by themselves, then so long again after TERM, then they are killed.
_ENDING_SECONDS = 10.0
# Who sends a signal that this run has not sent. Source of the second: TORCH_NCCL_ASYNC_ERROR_HANDLING in
# https://docs.pytorch.org/docs/stable/torch_nccl_environment_variables.html
_SENDERS = {
    "SIGKILL": " The system does that when memory runs out: the kernel's log says so.",
    "SIGABRT": " With NCCL, torch does that when another process has not answered for PROCESS_TIMEOUT_SECONDS.",
}

_log = logging.getLogger(__name__)


def run_spawned(
    main: Callable[..., None],
    *,
    num_processes: int,
    first: ProcessInfo,
    device: str,
    timeout_seconds: float,
    args: Sequence[Any],
) -> None:
    """Runs `main(*args)` in new processes; signals that ask the run to end are passed on to them.

    Args:
        main: at the top level of a module, as new processes import it.
        num_processes: on this machine.
        first: place of the first of them; the others' follow.
        device: see `initialized_process_group`.
        timeout_seconds: see `initialized_process_group`.
        args: passed to `main`.

    Raises:
        LostProcessError: if one of them was ended from outside.
        SystemExit: as the first process to leave that way did; KeyboardInterrupt likewise.
        Exception: the first that `main` raised in one of them; the others are ended.
    """
    if not uses_gpu(device) and device != "cpu":
        _log.warning("no GPU: %d processes share the CPU's cores", num_processes)
    with tempfile.TemporaryDirectory() as folder, SignalRelay() as relay:
        shared = (main, num_processes, first, device, timeout_seconds, Path(folder), tuple(args))
        processes = spawn(_live, args=shared, nprocs=num_processes, join=False)
        relay.pass_on_to(processes.pids())
        _wait(processes, reports=Path(folder), relay=relay)


def _live(
    local_rank: int,
    main: Callable[..., None],
    num_processes: int,
    first: ProcessInfo,
    device: str,
    timeout_seconds: float,
    reports: Path,
    args: tuple[Any, ...],
) -> None:
    """The life of one of the processes."""
    exit_with_parent()
    os.setsid()  # signals from the terminal come through the relay, once
    if not uses_gpu(device) and "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, torch.get_num_threads() // num_processes))
    info = replace(first, rank=first.rank + local_rank, local_rank=local_rank)
    try:
        with initialized_process_group(info, device=device, timeout_seconds=timeout_seconds):
            main(*args)
    except (SystemExit, KeyboardInterrupt) as leaving:
        _report(leaving, reports / f"{local_rank}{_REPORT_SUFFIX}")
        # And no status other than 0, at which the others would be ended in the middle of leaving.
    except Exception as error:
        _report(error, reports / f"{local_rank}{_REPORT_SUFFIX}")
        raise


def _wait(processes: ProcessContext, *, reports: Path, relay: SignalRelay) -> None:
    """Waits for the processes; an error in one of them ends the others and is raised here."""
    failure: ProcessException | None = None
    try:
        while not processes.join(grace_period=_ENDING_SECONDS):
            pass
    except ProcessException as error:
        failure = error
    if isinstance(failure, ProcessExitedException):
        # Not the failure's own number: torch has called it by two names.
        _raise_ended(failure, process_id=processes.pids()[failure.error_index], relay=relay)
    # The first one: the others may only have lost their connection to the process that failed.
    first = min((pickle.loads(file.read_bytes()) for file in reports.glob(f"*{_REPORT_SUFFIX}")), default=None)
    if first is not None:
        raise pickle.loads(first[1]) from failure
    if failure is not None:
        raise failure


def _raise_ended(failure: ProcessExitedException, *, process_id: int, relay: SignalRelay) -> NoReturn:
    """A process has ended without a word: it had been asked to before it could listen, or was not asked at all."""
    if relay.received == signal.SIGINT:
        raise KeyboardInterrupt from failure
    if relay.received is not None:
        raise SystemExit(128 + relay.received) from failure
    raise LostProcessError(
        f"process {failure.error_index} of this machine was ended by something else than this run, and the others with "
        f"it.{_SENDERS.get(failure.signal_name or '', '')} "
        f"Received: {failure.signal_name or f'exit status {failure.exit_code}'}, pid {process_id}"
    ) from failure


def _report(error: BaseException, path: Path) -> None:
    write_atomically(path, pickle.dumps((time.time_ns(), _pickled(error))))


def _pickled(error: BaseException) -> bytes:
    """The error, or the nearest thing to it that comes out of a pickle again: one of a base class, with its text."""
    kinds = [kind for kind in type(error).__mro__ if issubclass(kind, BaseException)]
    makers: list[Callable[[], BaseException]] = [lambda: error, *(partial(kind, str(error)) for kind in kinds)]
    for make in makers:
        try:
            content = pickle.dumps(make())
            pickle.loads(content)
        except Exception:  # an error may take any arguments and hold anything
            continue
        return content
    raise AssertionError("BaseException itself can be made from text and pickled")
