"""Limits of the machine on data loader workers: shared memory, file descriptors and CPU cores.

Workers send each array of a batch through a file in /dev/shm, which both processes keep open while they use it.
"""

from __future__ import annotations

import errno
import logging
import os
import resource
import shutil
import sys
from collections.abc import Iterator
from functools import cache
from typing import Any

from torch import Tensor

from dl_lib.data.errors import DataError

__all__ = [
    "WorkerLimitError",
    "limit_error",
    "shared_memory_state",
    "usable_cores",
    "warn_about_cores",
    "warn_about_limits",
]

_SHARED_MEMORY = "/dev/shm"
_SHARED_MEMORY_SIGNS = ("shared memory", "shared_memory", "No space left on device")
_DESCRIPTOR_SIGNS = ("Too many open files", "ancdata")  # the latter is a descriptor that could not be received
_BYTES_PER_MIB = 2**20
_ENLARGE = f"Enlarge it (Docker: --shm-size=8g or --ipc=host; else mount -o remount,size=8G {_SHARED_MEMORY})"
_FEWER_WORKERS = (
    "use fewer workers; DATALOADER.NUM_WORKERS=0 (--workers 0 of check-dataset) loads samples in the main process"
)

_log = logging.getLogger(__name__)


class WorkerLimitError(DataError):
    """Limit of the machine that prevents workers from sending their samples."""


def limit_error(error: BaseException) -> WorkerLimitError | None:
    """Return the error about a limit of the machine that caused an error of torch or multiprocessing, if any."""
    text, number = str(error), getattr(error, "errno", None)
    if number == errno.EMFILE or any(sign in text for sign in _DESCRIPTOR_SIGNS):
        return WorkerLimitError(
            "data loader workers need more open files than this process may have, one for each array of a batch that "
            f"is in transit. Raise the limit (ulimit -n) or {_FEWER_WORKERS}. "
            f"Received: limit={_max_descriptors()}, {text}"
        )
    if number == errno.ENOSPC or any(sign in text for sign in _SHARED_MEMORY_SIGNS):
        return WorkerLimitError(
            f"data loader workers cannot send their samples: {_SHARED_MEMORY} is too small or not usable. "
            f"{_ENLARGE} or {_FEWER_WORKERS}. Received: {shared_memory_state()}, {text}"
        )
    if number in (errno.EAGAIN, errno.ENOMEM):
        return WorkerLimitError(
            f"data loader workers cannot be started: the machine has no memory or processes (ulimit -u) left; "
            f"{_FEWER_WORKERS}. Received: {text}"
        )
    return None


def shared_memory_state() -> str:
    """Return the size of /dev/shm, to use in a message."""
    try:
        usage = shutil.disk_usage(_SHARED_MEMORY)
    except OSError as error:
        return f"{_SHARED_MEMORY}={error.strerror}"
    return f"{_SHARED_MEMORY}={usage.total / _BYTES_PER_MIB:.2f} MiB ({usage.free / _BYTES_PER_MIB:.2f} MiB free)"


def warn_about_limits(batch: Any, *, in_flight: int) -> None:
    """Log a warning if the machine cannot hold as many batches like this one as the workers load ahead.

    Args:
        batch: First batch of a loader.
        in_flight: Largest number of batches between workers and main process.
    """
    tensors = list(_tensors(batch))
    needed_bytes = in_flight * sum(tensor.untyped_storage().nbytes() for tensor in tensors)
    if os.path.isdir(_SHARED_MEMORY) and needed_bytes > shutil.disk_usage(_SHARED_MEMORY).free:
        _log.warning(
            "%s may become full, which ends the run. %s or %s. Loader workers may need %.1f MiB. Received: %s",
            _SHARED_MEMORY,
            _ENLARGE,
            _FEWER_WORKERS,
            needed_bytes / _BYTES_PER_MIB,
            shared_memory_state(),
        )
    needed_files = in_flight * len(tensors)
    if needed_files > _max_descriptors():
        _log.warning(
            "The limit of open files may be exceeded, which ends the run. Raise it (ulimit -n) or %s. Loader workers "
            "may need %d. Received: limit=%d",
            _FEWER_WORKERS,
            needed_files,
            _max_descriptors(),
        )


@cache  # one warning for all loaders of a run
def warn_about_cores(num_workers: int) -> None:
    """Log a warning if there are more workers than CPU cores, which slows loading down."""
    cores = usable_cores()
    if num_workers > cores:
        _log.warning(
            "More loader workers than CPU cores (%d), which may slow down loading: reduce DATALOADER.NUM_WORKERS "
            "(--workers of check-dataset). Received: DATALOADER.NUM_WORKERS=%d",
            cores,
            num_workers,
        )


def usable_cores() -> int:
    """Return the number of CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        yield from _tensors(list(value.values()))
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _tensors(item)


def _max_descriptors() -> int:
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return sys.maxsize if limit == resource.RLIM_INFINITY else limit
