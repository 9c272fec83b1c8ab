"""Data loader that reports the sample at which a worker process died.

A worker that is killed, by the kernel when memory runs out or by a crash in a decoder, cannot report an error. Each
worker therefore records its current sample in shared memory, where the parent process reads it.

Torch's own detection raises from a SIGCHLD handler at any point of the parent's code: inside a training step whose
error handling is unrelated, or while it holds a lock that worker shutdown waits for. Here, the parent checks the
workers only while it waits for a batch.
"""

from __future__ import annotations

import atexit
import copy
import signal
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from multiprocessing import connection
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess
from multiprocessing.queues import Queue
from multiprocessing.util import Finalize
from typing import Any, TypeVar

import torch
from torch import multiprocessing
from torch._C import _remove_worker_pids
from torch._utils import ExceptionWrapper
from torch.utils.data import DataLoader, Dataset, get_worker_info
from torch.utils.data.dataloader import _BaseDataLoaderIter, _MultiProcessingDataLoaderIter

from dl_lib.data.errors import DataError
from dl_lib.data.raw_dataset import RawDataset, sample_name
from dl_lib.data.worker_limits import limit_error, shared_memory_state, warn_about_cores, warn_about_limits

__all__ = ["MonitoredDataLoader", "WorkerProgress"]

Item = TypeVar("Item")

_IDLE = -1
_POLL_SECONDS = 1.0  # interval of liveness checks while waiting for a batch
_EXIT_TIMEOUT_SECONDS = 2.0


class WorkerProgress:
    """Index of the sample each worker is loading, in shared memory.

    Args:
        dataset: Dataset that the workers read.
        num_workers: Number of workers of the loader; with 0, nothing is recorded.
    """

    def __init__(self, dataset: RawDataset, *, num_workers: int) -> None:
        self._dataset = dataset
        with _limits_named():
            self._indices = torch.full((num_workers,), _IDLE, dtype=torch.int64).share_memory_()

    @contextmanager
    def loading(self, index: int) -> Iterator[None]:
        """Record that the current worker is loading a sample, until the context exits."""
        worker = get_worker_info()
        if worker is None:
            yield
            return
        self._indices[worker.id] = index
        try:
            yield
        finally:
            self._indices[worker.id] = _IDLE

    def describe(self, worker: int) -> str:
        """Return the current or last state of a worker: the sample it was loading, or that it was idle."""
        index = int(self._indices[worker])
        if index == _IDLE:
            return "between two samples"
        return f"at sample {index} ({sample_name(self._dataset, index)})"


class MonitoredDataLoader(DataLoader[Item]):
    """`DataLoader` that raises a `DataError` naming the current sample when a worker has died.

    The dataset must record its `progress`; all other arguments are those of `DataLoader`.
    """

    def __init__(self, dataset: Dataset[Item], *, progress: WorkerProgress, **settings: Any) -> None:
        self.progress = progress
        super().__init__(dataset, **settings)
        if self.num_workers > 0:
            self.multiprocessing_context = _error_reporting_context()

    def check_worker_number_rationality(self) -> None:
        warn_about_cores(self.num_workers)

    def _get_iterator(self) -> _BaseDataLoaderIter:
        if self.num_workers == 0:
            return super()._get_iterator()
        with _limits_named():
            return _MonitoredIterator(self)


class _ResultQueue(Queue):
    """Queue that sends an error instead of an item that its feeder thread cannot send.

    Python only prints this error, and the receiver waits for the item forever.
    """

    def _on_queue_feeder_error(self, error: Exception, item: tuple[int, Any]) -> None:
        reported = limit_error(error) or error
        wrapper = ExceptionWrapper((type(reported), reported, error.__traceback__), where="in a data loader worker")
        self.put((item[0], wrapper))


def _error_reporting_context() -> BaseContext:
    context = copy.copy(multiprocessing.get_context())
    context.Queue = partial(_ResultQueue, ctx=context)  # type: ignore[method-assign]
    return context


@contextmanager
def _limits_named() -> Iterator[None]:
    """Turn an error of torch or multiprocessing about a limit of the machine into one that names the limit."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        limit = limit_error(error)
        if limit is None:
            raise
        raise limit from error


class _MonitoredIterator(_MultiProcessingDataLoaderIter):
    """Torch's iterator with a different detection of dead workers and shutdown at exit."""

    _shutdown = True  # until torch's constructor has created its queues; its destructor reads it

    def __init__(self, loader: MonitoredDataLoader[Any]) -> None:
        self._progress = loader.progress
        self._has_returned = False
        super().__init__(loader)
        # Shut workers down before Python joins them at exit: they ignore the SIGTERM that would end daemon processes.
        atexit.register(_shut_down, weakref.ref(self))  # in a process started by the user
        Finalize(self, _shut_down, args=(weakref.ref(self),), exitpriority=100)  # in a spawned process

    def _reset(self, loader: DataLoader[Any], first_iter: bool = False) -> None:
        # Unregister the workers from torch's SIGCHLD handler before they receive their first index.
        if self._worker_pids_set:
            _remove_worker_pids(id(self))
            self._worker_pids_set = False
        super()._reset(loader, first_iter)

    def __next__(self) -> Any:
        batch = super().__next__()
        if not self._has_returned:
            self._has_returned = True
            # Besides those loaded ahead, the batch of the current step and the one that replaces it.
            warn_about_limits(batch, in_flight=self._prefetch_factor * self._num_workers + 2)
        return batch

    def _get_data(self) -> Any:
        try:
            with _limits_named():
                return super()._get_data()
        except DataError:
            raise
        except Exception:
            # Any error can follow from a lost worker, whose connection closes shortly before the process exits.
            workers = {worker.sentinel: worker for worker in self._workers}
            for sentinel in connection.wait(list(workers), timeout=_EXIT_TIMEOUT_SECONDS):
                workers[sentinel].join()  # type: ignore[index]
            self._raise_if_worker_died()
            raise

    def _try_get_data(self, timeout: float = _POLL_SECONDS) -> Any:
        self._raise_if_worker_died()  # even if the awaited batch is not this worker's: one of its next batches is lost
        return super()._try_get_data(timeout)

    def _raise_if_worker_died(self) -> None:
        dead = {number: worker for number, worker in enumerate(self._workers) if worker.exitcode is not None}
        if dead:
            self._shutdown_workers()
            states = " and ".join(map(self._progress.describe, dead))
            received = ", ".join(f"pid {worker.pid}: {_exit_reason(worker)}" for worker in dead.values())
            bus_error = ""
            if signal.SIGBUS.name in received:
                bus_error = f" SIGBUS occurs when {shared_memory_state()} is full or a cache file is truncated."
            raise DataError(
                f"a data loader worker died {states}. If it was killed because memory ran out, use fewer workers "
                "(DATALOADER.NUM_WORKERS, or --workers of check-dataset) or smaller images. If the same sample always "
                "kills the worker, fix or remove its file. With 0 workers, the main process loads the samples and "
                f"shows the full error.{bus_error} Received: {received}"
            )


def _exit_reason(worker: BaseProcess) -> str:
    code = worker.exitcode or 0
    return signal.Signals(-code).name if code < 0 else f"exit status {code}"


def _shut_down(reference: weakref.ref[_MonitoredIterator]) -> None:
    iterator = reference()
    if iterator is not None:
        iterator._shutdown_workers()
