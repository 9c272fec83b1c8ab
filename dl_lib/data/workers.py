"""Processes that load samples: how they end, and what is known of one that has died.

One that is killed, by the system when memory runs out or by a fault in a decoder, can tell nothing any more. So each
notes in shared memory which sample it is at, and the process that waits for its samples reads the note.

Torch also has a handler of signals raise an error when a worker dies, in whatever its parent is doing: in the middle of
a step, where errors are caught that are none of it, or where a lock is held that the workers' end then waits for. Here
the parent looks whether they are alive when it waits for a batch, and nowhere else.
"""

from __future__ import annotations

import atexit
import signal
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import connection
from multiprocessing.process import BaseProcess
from multiprocessing.util import Finalize
from typing import Any, NoReturn, TypeVar

import torch
from torch._C import _remove_worker_pids
from torch.utils.data import DataLoader, Dataset, get_worker_info
from torch.utils.data.dataloader import _BaseDataLoaderIter, _MultiProcessingDataLoaderIter

from dl_lib.data.catalog import RawDataset
from dl_lib.data.errors import DataError
from dl_lib.data.naming import sample_name

__all__ = ["WatchedLoader", "WorkerNotes"]

Item = TypeVar("Item")

_NOTHING = -1
_LOOK_SECONDS = 1.0  # between two looks at the workers, while a batch is waited for
_DYING_SECONDS = 2.0


class WorkerNotes:
    """Which sample each worker of a loader is at.

    Args:
        dataset: that the samples are of.
        num_workers: of the loader; without any there is nothing to note.
    """

    def __init__(self, dataset: RawDataset, *, num_workers: int) -> None:
        self._dataset = dataset
        self._indices = torch.full((num_workers,), _NOTHING, dtype=torch.int64).share_memory_()

    @contextmanager
    def at(self, index: int) -> Iterator[None]:
        """For the stretch in which a worker loads the sample of this index."""
        worker = get_worker_info()
        if worker is None:
            yield
            return
        self._indices[worker.id] = index
        try:
            yield
        finally:
            self._indices[worker.id] = _NOTHING

    def of(self, worker: int) -> str:
        """Where the worker of this number is, or was last: at which sample, or between two."""
        index = int(self._indices[worker])
        if index == _NOTHING:
            return "between two samples"
        return f"at sample {index} ({sample_name(self._dataset, index)})"


class WatchedLoader(DataLoader[Item]):
    """A loader that says at which sample a worker has died; waiting for a batch raises a DataError then.

    Args:
        dataset: whose samples the workers note.
        notes: which they do that in.
        settings: of DataLoader.
    """

    def __init__(self, dataset: Dataset[Item], *, notes: WorkerNotes, **settings: Any) -> None:
        self.notes = notes
        super().__init__(dataset, **settings)

    def _get_iterator(self) -> _BaseDataLoaderIter:
        if self.num_workers == 0:
            return super()._get_iterator()
        self.check_worker_number_rationality()
        return _WatchedIterator(self)


class _WatchedIterator(_MultiProcessingDataLoaderIter):
    """Torch's, but for how it notices that a worker has died, and how the others end."""

    def __init__(self, loader: WatchedLoader[Any]) -> None:
        self._notes = loader.notes
        super().__init__(loader)
        # Before Python waits for them: the signal that it would send them first is one that they ignore.
        atexit.register(_end_workers, weakref.ref(self))  # in a process that a user has started
        Finalize(self, _end_workers, args=(weakref.ref(self),), exitpriority=100)  # in one that was spawned

    def _reset(self, loader: DataLoader[Any], first_iter: bool = False) -> None:
        """Before the workers get anything to do, those that the handler of signals knows are taken from it."""
        if self._worker_pids_set:
            _remove_worker_pids(id(self))
            self._worker_pids_set = False
        super()._reset(loader, first_iter)

    def _get_data(self) -> Any:
        try:
            return super()._get_data()
        except DataError:
            raise
        except Exception:  # whatever was lost with a worker; a connection to it ends a moment before it does
            ends = {worker.sentinel: worker for worker in self._workers}
            for sentinel in connection.wait(list(ends), timeout=_DYING_SECONDS):
                ends[sentinel].join()  # type: ignore[index]
            self._raise_if_one_has_died()
            raise

    def _try_get_data(self, timeout: float = _LOOK_SECONDS) -> Any:
        self._raise_if_one_has_died()  # also if it owes nothing now: it will, sooner or later
        return super()._try_get_data(timeout)

    def _raise_if_one_has_died(self) -> None:
        dead = {number: worker for number, worker in enumerate(self._workers) if worker.exitcode is not None}
        if dead:
            self._shutdown_workers()
            _raise_death(
                " and ".join(map(self._notes.of, dead)),
                received=", ".join(f"pid {worker.pid}: {_end_of(worker)}" for worker in dead.values()),
            )


def _raise_death(places: str, *, received: str) -> NoReturn:
    raise DataError(
        f"a process that loads samples has died {places}. If the system killed it, memory ran out: take fewer of "
        "them (DATALOADER.NUM_WORKERS, --workers of check_dataset.py), or smaller images. If reading this sample ends "
        "it every time, mend the file or take it away. Without such processes (0 of them) an error that they could not "
        "tell appears in full. "
        f"Received: {received}"
    )


def _end_of(worker: BaseProcess) -> str:
    code = worker.exitcode or 0
    return signal.Signals(-code).name if code < 0 else f"exit status {code}"


def _end_workers(reference: weakref.ref[_WatchedIterator]) -> None:
    iterator = reference()
    if iterator is not None:
        iterator._shutdown_workers()
