"""Dead workers: the error names the sample that was being loaded, and is raised only while waiting for a batch."""

import errno
import multiprocessing
import os
import re
import resource
import shutil
import signal
import sys
import time
import traceback
from functools import partial
from itertools import islice
from multiprocessing.synchronize import SemLock

import numpy as np
import pytest
import torch
from torch.utils.data import get_worker_info

from dl_lib.config.defaults import DEFAULTS
from dl_lib.data import DatasetCatalog, DatasetMeta, build_test_loader, build_train_loader
from dl_lib.data.dataset_check import check_samples
from dl_lib.data.errors import DataError
from dl_lib.data.worker_limits import WorkerLimitError, warn_about_cores

META = DatasetMeta(class_names=("a", "b"), class_colors=((0, 0, 0), (255, 255, 255)))
SIZE = 12
TIMEOUT_SECONDS = 20  # for conditions that take milliseconds
OTHERS = []  # child processes that existed before the test


@pytest.fixture(autouse=True)
def record_other_processes(monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "OTHERS", multiprocessing.active_children())


def workers():
    return [process for process in multiprocessing.active_children() if process not in OTHERS]


def kill_self():
    os.kill(os.getpid(), signal.SIGKILL)


class WorkerKiller:
    """Dataset of twelve images with distinct gray values; loading certain indices ends the worker process."""

    def __init__(self, fatal=(), end=kill_self):
        self.fatal, self.end = fatal, end
        self.started = torch.zeros(SIZE).share_memory_()

    def __len__(self):
        return SIZE

    def __getitem__(self, index):
        self.started[index] = 1
        if index in self.fatal and get_worker_info() is not None:
            self.end()
        image = np.full((6, 8, 3), index, np.uint8)
        return {
            "image": image,
            "sem_seg": image[..., 0] * 0,
            "image_id": str(index),
            "file_name": self.file_name(index),
        }

    def file_name(self, index):
        return f"img/{index:02d}.png"


@pytest.fixture
def cfg(own_catalog):
    cfg = DEFAULTS.clone()
    cfg.DATALOADER.NUM_WORKERS = 2
    cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES = 2
    cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.CROP_SIZE = [], 0, [4, 4]
    cfg.SOLVER.IMS_PER_BATCH = 2
    return cfg


def register(name, dataset):
    DatasetCatalog.register(name, lambda: dataset, META)
    return name


def error_message(batches):
    """Consume batches until an error is raised; return its message after checking that no worker is left."""
    with pytest.raises(DataError) as caught:
        list(islice(batches, 100))
    assert workers() == []
    return str(caught.value)


def limit_message(batches):
    """Return the message of the first error, after the workers have been shut down."""
    with pytest.raises(WorkerLimitError) as caught:
        list(islice(batches, 100))
    traceback.clear_frames(caught.tb)
    return str(caught.value)


def wait_until(condition):
    """Poll in Python code, where a signal handler could run."""
    end = time.monotonic() + TIMEOUT_SECONDS
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.mark.parametrize("number", [1, 2])
def test_evaluation_reports_the_sample_that_killed_a_worker(cfg, number):
    cfg.DATALOADER.NUM_WORKERS = number
    batches = iter(build_test_loader(cfg, register("fatal", WorkerKiller([5]))))
    message = error_message(batches)
    assert message.startswith("a data loader worker died at sample 5 (img/05.png). If it was killed")
    assert message.endswith(": SIGKILL")


@pytest.mark.parametrize("policy", ["raise", "skip"])
def test_training_reports_the_file_in_concatenated_datasets(cfg, policy):
    cfg.DATALOADER.ON_ERROR = policy  # a dead worker is not an invalid sample
    cfg.DATASETS.TRAIN = [register("whole", WorkerKiller()), register("fatal", WorkerKiller([3]))]
    assert "worker died at sample 15 (img/03.png). " in error_message(iter(build_train_loader(cfg)))


def test_dataset_check_reports_the_file():
    assert "worker died at sample 5 (img/05.png). " in error_message(
        check_samples(WorkerKiller([5]), meta=META, workers=2)
    )


def test_worker_exit_is_reported(cfg):
    dataset = WorkerKiller(range(SIZE), end=lambda: os._exit(3))
    message = error_message(iter(build_test_loader(cfg, register("fatal", dataset))))
    assert "sample 0 (img/00.png)" in message or "sample 1 (img/01.png)" in message
    assert ": exit status 3" in message


def test_death_of_an_idle_worker_is_reported_at_the_next_wait(cfg):
    dataset = WorkerKiller()
    loader = build_test_loader(cfg, register("idle", dataset))
    batches = iter(loader)
    next(batches)
    wait_until(lambda: dataset.started.sum() == 5)  # one batch is consumed and two per worker are prefetched
    wait_until(lambda: (loader.loader.progress._indices == -1).all())
    os.kill(workers()[0].pid, signal.SIGKILL)
    wait_until(lambda: len(workers()) == 1)  # without an error
    message = error_message(batches)
    assert "worker died between two samples. " in message
    assert message.endswith(": SIGKILL")


def no_space(storage):
    raise RuntimeError("unable to allocate shared memory(shm) for file </torch_1>: No space left on device (28)")


@pytest.mark.parametrize("build", [build_train_loader, partial(build_test_loader, dataset_name="whole")])
def test_full_shared_memory_ends_the_run(cfg, monkeypatch, build):
    """The workers cannot send their first batch; multiprocessing would print the error and wait."""
    cfg.DATASETS.TRAIN = [register("whole", WorkerKiller())]
    cfg.DATALOADER.ON_ERROR = "skip"
    batches = build(cfg)
    monkeypatch.setattr(torch.UntypedStorage, "_share_fd_cpu_", no_space)
    message = limit_message(batches)
    assert "WorkerLimitError: data loader workers cannot send their samples: /dev/shm is too small" in message
    assert "--shm-size=8g" in message
    assert "DATALOADER.NUM_WORKERS=0" in message
    assert re.search(r"Received: /dev/shm=[\d.]+ MiB \([\d.]+ MiB free\), unable to allocate", message)


@pytest.mark.parametrize(
    ("number", "limit"),
    [
        (errno.ENOSPC, "--shm-size.*Received: /dev/shm="),
        (errno.EMFILE, r"ulimit -n\).*Received: limit=\d+"),
        (errno.EAGAIN, r"ulimit -u\).*Received: "),
    ],
)
def test_limit_at_the_start_of_the_workers_is_named(cfg, monkeypatch, number, limit):
    def fail(*_, **__):
        raise OSError(number, os.strerror(number))

    batches = build_test_loader(cfg, register("whole", WorkerKiller()))
    monkeypatch.setattr(
        os if number == errno.EAGAIN else SemLock, "fork" if number == errno.EAGAIN else "__init__", fail
    )
    assert re.search(rf"{limit}.*\[Errno {number}\]", limit_message(batches))


def test_too_many_open_files_end_the_run(cfg):
    cfg.SOLVER.IMS_PER_BATCH = 64  # two arrays each
    cfg.DATASETS.TRAIN = [register("whole", WorkerKiller())]
    batches = build_train_loader(cfg)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 40, limits[1]))
    try:
        message = limit_message(batches)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert "data loader workers need more open files" in message
    assert "ulimit -n" in message
    assert "DATALOADER.NUM_WORKERS=0" in message


def test_small_limits_are_warned_of_with_the_first_batch(cfg, monkeypatch, log):
    cfg.DATASETS.TRAIN = [register("whole", WorkerKiller())]
    needed = (2 * 2 + 2) * 2 * 4 * 4 * 4  # batches in flight, images, pixels, channels with the label
    for free in (needed, needed - 1):
        monkeypatch.setattr(shutil, "disk_usage", lambda path, free=free: shutil._ntuple_diskusage(2**20, 0, free))
        monkeypatch.setattr(resource, "getrlimit", lambda kind, free=free: (24 - needed + free, -1))
        batches = build_train_loader(cfg)
        list(islice(batches, 3))
    memory, files = (text for text in log.messages if "ends the run" in text)
    assert memory.startswith("/dev/shm may become full")
    assert memory.endswith("Loader workers may need 0.0 MiB. Received: /dev/shm=1.00 MiB (0.00 MiB free)")
    assert files.endswith("may need 24. Received: limit=23")


def test_more_workers_than_cores_are_one_warning(cfg, monkeypatch, log, recwarn):
    monkeypatch.setattr("dl_lib.data.worker_limits.usable_cores", lambda: 1)
    warn_about_cores.cache_clear()
    register("whole", WorkerKiller())
    for _ in range(2):
        next(iter(build_test_loader(cfg, "whole")))
    assert [text for text in log.messages if "CPU cores" in text] == [
        "More loader workers than CPU cores (1), which may slow down loading: reduce DATALOADER.NUM_WORKERS (--workers "
        "of check-dataset). Received: DATALOADER.NUM_WORKERS=2"
    ]
    assert not [warning for warning in recwarn if "worker" in str(warning.message)]
