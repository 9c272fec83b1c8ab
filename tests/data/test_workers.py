"""Workers that die, truly: the error names the sample that they were at, wherever the main process was meanwhile."""

import multiprocessing
import os
import signal
import sys
import time
from itertools import islice

import numpy as np
import pytest
import torch
from torch.utils.data import get_worker_info

from dl_lib.config.defaults import DEFAULTS
from dl_lib.data import DatasetCatalog, DatasetMeta, build_test_loader, build_train_loader
from dl_lib.data.dataset_check import check_samples
from dl_lib.data.errors import DataError

META = DatasetMeta(class_names=("a", "b"), class_colors=((0, 0, 0), (255, 255, 255)))
SIZE = 12
SECONDS = 20  # to wait for what takes milliseconds
OTHERS = []  # processes that tests before the present one have left


@pytest.fixture(autouse=True)
def others_are_known(monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "OTHERS", multiprocessing.active_children())


def workers():
    return [process for process in multiprocessing.active_children() if process not in OTHERS]


def kill_this():
    os.kill(os.getpid(), signal.SIGKILL)


class Deadly:
    """Twelve images, each of its own grey; whoever loads one of some has its process ended."""

    def __init__(self, deadly=(), end=kill_this):
        self.deadly, self.end = deadly, end
        self.begun = torch.zeros(SIZE).share_memory_()

    def __len__(self):
        return SIZE

    def __getitem__(self, index):
        self.begun[index] = 1
        if index in self.deadly and get_worker_info() is not None:
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
def cfg(monkeypatch):
    monkeypatch.setattr(DatasetCatalog, "_entries", dict(DatasetCatalog._entries))
    cfg = DEFAULTS.clone()
    cfg.DATALOADER.NUM_WORKERS = 2
    cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES = 2
    cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.CROP_SIZE = [], 0, [4, 4]
    cfg.SOLVER.IMS_PER_BATCH = 2
    return cfg


def register(name, dataset):
    DatasetCatalog.register(name, lambda: dataset, META)
    return name


def message_of(batches):
    """Of the error that ends them, and the workers that are left with them."""
    with pytest.raises(DataError) as caught:
        list(islice(batches, 100))
    assert workers() == []
    return str(caught.value)


def wait_until(condition):
    """In bytecode, where a handler of signals would come in."""
    end = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.mark.parametrize("number", [1, 2])
def test_evaluation_names_the_file_that_killed_a_worker(cfg, number):
    cfg.DATALOADER.NUM_WORKERS = number
    batches = iter(build_test_loader(cfg, register("deadly", Deadly([5]))))
    message = message_of(batches)
    assert message.startswith("a data loader worker died at sample 5 (img/05.png). If it was killed")
    assert message.endswith(": SIGKILL")


@pytest.mark.parametrize("policy", ["raise", "skip"])
def test_training_names_the_file_behind_the_sum_of_its_data_sets(cfg, policy):
    cfg.DATALOADER.ON_ERROR = policy  # a process that is gone has skipped nothing
    cfg.DATASETS.TRAIN = [register("whole", Deadly()), register("deadly", Deadly([3]))]
    assert "worker died at sample 15 (img/03.png). " in message_of(iter(build_train_loader(cfg)))


def test_checks_of_a_data_set_name_the_file_too():
    assert "worker died at sample 5 (img/05.png). " in message_of(check_samples(Deadly([5]), meta=META, workers=2))


def test_a_worker_may_end_by_itself_and_all_may(cfg):
    dataset = Deadly(range(SIZE), end=lambda: os._exit(3))
    message = message_of(iter(build_test_loader(cfg, register("deadly", dataset))))
    assert "sample 0 (img/00.png)" in message or "sample 1 (img/01.png)" in message
    assert ": exit status 3" in message


def test_a_worker_that_dies_while_nobody_waits_disturbs_nobody(cfg):
    dataset = Deadly()
    loader = build_test_loader(cfg, register("idle", dataset))
    batches = iter(loader)
    next(batches)
    wait_until(lambda: dataset.begun.sum() == 5)  # one is fetched, and two for each worker come next
    wait_until(lambda: (loader.loader.progress._indices == -1).all())
    os.kill(workers()[0].pid, signal.SIGKILL)
    wait_until(lambda: len(workers()) == 1)  # and no error comes
    message = message_of(batches)
    assert "worker died between two samples. " in message
    assert message.endswith(": SIGKILL")
