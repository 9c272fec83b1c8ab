"""Samples that cannot be used: raised, replaced or left out, and counted in one place."""

import logging
import traceback
from itertools import chain, islice

import numpy as np
import pytest
import torch
from torch._utils import ExceptionWrapper

from dl_lib.cli.errors import user_errors
from dl_lib.config.defaults import DEFAULTS
from dl_lib.data import DatasetCatalog, DatasetMeta, build_test_loader, build_train_loader
from dl_lib.data.cache import CacheError
from dl_lib.data.errors import InvalidSampleError, MissingDataError, UnknownDatasetError, UnreadableFileError
from dl_lib.data.mapper import DatasetMapper, MappedDataset
from dl_lib.data.sample_loader import SkipInvalidSamples, SkippedSample, TooManySkippedError
from dl_lib.data.samplers import SampleKey
from dl_lib.data.workers import WorkerProgress

META = DatasetMeta(class_names=("a", "b"), class_colors=((0, 0, 0), (255, 255, 255)))


class Folder:
    """Twelve images, each of its own grey; some cannot be read, and 3 has a label that is no class."""

    def __init__(self, broken=(), errors=(UnreadableFileError, MissingDataError)):
        self.broken, self.errors = broken, errors

    def __len__(self):
        return 12

    def __getitem__(self, index):
        name = f"img/{index:02d}.png"
        if index in self.broken:
            raise self.errors[index % len(self.errors)](f"{name} is damaged. Received: 3 bytes")
        label = np.full((6, 8), 9 if index == 3 and self.broken else 1, np.uint8)
        image = np.full((6, 8, 3), index, np.uint8)
        return {"image": image, "sem_seg": label, "image_id": name, "file_name": name}


@pytest.fixture
def cfg(monkeypatch):
    monkeypatch.setattr(DatasetCatalog, "_entries", dict(DatasetCatalog._entries))
    for name, folder in {
        "whole": Folder(),
        "broken": Folder(broken=(1, 4)),
        "lost": Folder(broken=range(12)),
        "defective": Folder(broken=(1, 4), errors=(ZeroDivisionError,)),
    }.items():
        DatasetCatalog.register(name, lambda folder=folder: folder, META)
    cfg = DEFAULTS.clone()
    cfg.DATALOADER.NUM_WORKERS = 0
    cfg.DATALOADER.ON_ERROR = "skip"
    cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES = 2
    cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.CROP_SIZE = [], 0, [4, 4]
    cfg.SOLVER.IMS_PER_BATCH = 4
    return cfg


def tolerant(dataset, *, max_skipped):
    """In this process, where there is nothing to note."""
    progress = WorkerProgress(dataset.dataset, num_workers=0)
    return SkipInvalidSamples(dataset, on_error="replace", max_skipped=max_skipped, progress=progress)


def train_loader(cfg, name):
    cfg.DATASETS.TRAIN = [name]
    return build_train_loader(cfg)


def greys(batch):
    return [int(sample["image"][0, 0, 0]) for sample in batch]


def end_workers(caught):
    """Let go of the loader's workers at once: left to the garbage collector, torch waits five seconds for them."""
    traceback.clear_frames(caught.tb)


def indices(loader):
    return sorted(sample.index for sample in loader.skipped)


@pytest.mark.parametrize("workers", [0, 2])
def test_training_replaces_what_is_broken_whatever_the_number_of_workers(cfg, workers, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("dl_lib"), "propagate", True)
    whole = [greys(batch) for batch in islice(train_loader(cfg, "whole"), 6)]
    alone = [greys(batch) for batch in islice(train_loader(cfg, "broken"), 6)]
    caplog.clear()
    cfg.DATALOADER.NUM_WORKERS = workers
    loader = train_loader(cfg, "broken")
    batches = list(islice(loader, 6))
    assert [greys(batch) for batch in batches] == alone
    for before, after in zip(chain(*whole), chain(*alone), strict=True):
        assert after not in (1, 3, 4)
        assert before in (1, 3, 4) or before == after
    assert all(len(batch) == 4 for batch in batches)
    assert indices(loader) == [1, 3, 4]  # each once, though two passes met them
    assert len(caplog.messages) == 3
    for index in (1, 3, 4):
        assert sum(f"sample {index}: " in text and f"{index:02d}.png" in text for text in caplog.messages) == 1


def test_replacements_differ_from_pass_to_pass(cfg):
    dataset = train_loader(cfg, "broken").loader.dataset
    drawn = {greys([dataset[SampleKey(epoch, 1)].sample])[0] for epoch in range(30)}
    assert len(drawn) > 5
    assert not drawn & {1, 3, 4}


@pytest.mark.parametrize("workers", [0, 2])
def test_evaluation_leaves_out_what_is_broken(cfg, workers):
    cfg.DATALOADER.NUM_WORKERS = workers
    loader = build_test_loader(cfg, "broken")
    assert [greys(batch) for batch in loader] == [[0], [2], [5], [6], [7], [8], [9], [10], [11]]
    assert indices(loader) == [1, 3, 4]
    assert all(f"{sample.index:02d}.png" in sample.reason for sample in loader.skipped)
    assert len(loader) == 12


def test_nothing_is_skipped_where_nothing_is_wrong(cfg):
    loader = build_test_loader(cfg, "whole")
    assert list(chain(*map(greys, loader))) == list(range(12))
    assert loader.skipped == []


def test_one_more_than_allowed_ends_the_run_with_a_list(cfg):
    cfg.DATALOADER.MAX_SKIPPED = 2
    loader = build_test_loader(cfg, "broken")
    with pytest.raises(TooManySkippedError) as caught:
        list(loader)
    message = str(caught.value)
    assert message.startswith("3 samples are invalid")
    assert [line.split(": ")[0] for line in message.splitlines()[1:4]] == ["  sample 1", "  sample 3", "  sample 4"]
    assert "img/01.png is damaged" in message
    assert message.endswith("Received: DATALOADER.MAX_SKIPPED=2")
    cfg.DATALOADER.MAX_SKIPPED = 3
    assert len(list(build_test_loader(cfg, "broken"))) == 9


@pytest.mark.parametrize("workers", [0, 1])
def test_a_training_without_any_sample_ends(cfg, workers):
    cfg.DATALOADER.NUM_WORKERS = workers
    message = r"img/.*\.png is damaged. Received: 3 bytes"
    with pytest.raises((UnreadableFileError, MissingDataError), match=message) as caught:
        next(iter(train_loader(cfg, "lost")))
    end_workers(caught)


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("name", ["broken", "defective"])
def test_by_default_the_first_error_is_raised_and_names_the_file(cfg, name, workers):
    cfg.DATALOADER.NUM_WORKERS = workers
    cfg.DATALOADER.ON_ERROR = "raise"
    error = MissingDataError if name == "broken" else ZeroDivisionError
    loader = build_test_loader(cfg, name)
    with pytest.raises(error, match=r"img/01.png is damaged. Received: 3 bytes") as caught:
        list(loader)
    end_workers(caught)
    assert loader.skipped == []


@pytest.mark.parametrize(
    "kind", [CacheError, InvalidSampleError, MissingDataError, UnknownDatasetError, UnreadableFileError]
)
def test_of_any_data_error_in_a_worker_the_command_shows_the_message_alone(kind, capsys):
    """A worker sends its error as text, with the traceback before it, and that of what led to it."""
    try:
        try:
            raise OSError("disk: no answer")
        except OSError as cause:
            raise kind("img/01.png: cannot be read.\n  Received: x=1") from cause
    except kind:
        sent = ExceptionWrapper(where="in DataLoader worker process 0")
    with pytest.raises(SystemExit) as caught, user_errors("dl_train"):
        sent.reraise()
    assert caught.value.code == 2
    assert capsys.readouterr().err == "dl_train: error: img/01.png: cannot be read.\n  Received: x=1\n"


def test_what_is_no_fault_of_the_data_is_never_skipped(cfg):
    for loader in (build_test_loader(cfg, "defective"), train_loader(cfg, "defective")):
        with pytest.raises(ZeroDivisionError, match="is damaged"):
            list(islice(loader, 6))


def test_a_replacement_is_augmented_as_drawn_from_the_same_generator():
    def dataset(broken):
        mapper = DatasetMapper([], channel_order="RGB", num_classes=2, ignore_value=255, transform_label=True)
        return MappedDataset(Folder(broken=broken), mapper=mapper, seed=7)

    loaded = tolerant(dataset((5,)), max_skipped=1)[SampleKey(2, 5)]
    draws = np.random.default_rng([7, 2, 5])
    index = int(draws.integers(12))
    assert torch.equal(loaded.sample["image"], dataset(()).map(index, rng=draws)["image"])
    assert loaded.skipped == (SkippedSample(5, "img/05.png is damaged. Received: 3 bytes"),)


def test_the_error_after_the_last_replacement_is_the_last_ones_own():
    mapper = DatasetMapper([], channel_order="RGB", num_classes=2, ignore_value=255, transform_label=True)
    lost = MappedDataset(Folder(broken=range(12), errors=(InvalidSampleError,)), mapper=mapper, seed=0)
    draws = np.random.default_rng([0, 0, 5])
    last = [5, int(draws.integers(12)), int(draws.integers(12))][-1]
    with pytest.raises(InvalidSampleError, match=f"img/{last:02d}.png"):
        tolerant(lost, max_skipped=2)[SampleKey(0, 5)]
