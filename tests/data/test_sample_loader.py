"""Invalid samples: raised, replaced or dropped, and counted by the loader."""

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
    """Dataset of twelve images with distinct gray values; some raise, and index 3 has an unknown label id."""

    def __init__(self, invalid=(), errors=(UnreadableFileError, MissingDataError)):
        self.invalid, self.errors = invalid, errors

    def __len__(self):
        return 12

    def __getitem__(self, index):
        name = f"img/{index:02d}.png"
        if index in self.invalid:
            raise self.errors[index % len(self.errors)](f"{name} is damaged. Received: 3 bytes")
        label = np.full((6, 8), 9 if index == 3 and self.invalid else 1, np.uint8)
        image = np.full((6, 8, 3), index, np.uint8)
        return {"image": image, "sem_seg": label, "image_id": name, "file_name": name}


@pytest.fixture
def cfg(own_catalog):
    for name, folder in {
        "valid": Folder(),
        "invalid": Folder(invalid=(1, 4)),
        "all_invalid": Folder(invalid=range(12)),
        "buggy": Folder(invalid=(1, 4), errors=(ZeroDivisionError,)),
    }.items():
        DatasetCatalog.register(name, lambda folder=folder: folder, META)
    cfg = DEFAULTS.clone()
    cfg.DATALOADER.NUM_WORKERS = 0
    cfg.DATALOADER.ON_ERROR = "skip"
    cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES = 2
    cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.CROP_SIZE = [], 0, [4, 4]
    cfg.SOLVER.IMS_PER_BATCH = 4
    return cfg


def with_replacement(dataset, *, max_skipped):
    """Return a dataset that replaces invalid samples, loaded in the current process."""
    progress = WorkerProgress(dataset.dataset, num_workers=0)
    return SkipInvalidSamples(dataset, on_error="replace", max_skipped=max_skipped, progress=progress)


def train_loader(cfg, name):
    cfg.DATASETS.TRAIN = [name]
    return build_train_loader(cfg)


def gray_values(batch):
    return [int(sample["image"][0, 0, 0]) for sample in batch]


def end_workers(caught):
    """Release the loader's workers now: when garbage-collected later, torch waits five seconds for them."""
    traceback.clear_frames(caught.tb)


def indices(loader):
    return sorted(sample.index for sample in loader.skipped)


@pytest.mark.parametrize("workers", [0, 2])
def test_training_replaces_invalid_samples_for_any_number_of_workers(cfg, workers, log):
    valid = [gray_values(batch) for batch in islice(train_loader(cfg, "valid"), 6)]
    alone = [gray_values(batch) for batch in islice(train_loader(cfg, "invalid"), 6)]
    log.clear()
    cfg.DATALOADER.NUM_WORKERS = workers
    loader = train_loader(cfg, "invalid")
    batches = list(islice(loader, 6))
    assert [gray_values(batch) for batch in batches] == alone
    for before, after in zip(chain(*valid), chain(*alone), strict=True):
        assert after not in (1, 3, 4)
        assert before in (1, 3, 4) or before == after
    assert all(len(batch) == 4 for batch in batches)
    assert indices(loader) == [1, 3, 4]  # each once, although two epochs contain them
    assert len(log.messages) == 3
    for index in (1, 3, 4):
        assert sum(f"sample {index}: " in text and f"{index:02d}.png" in text for text in log.messages) == 1


def test_replacements_differ_between_epochs(cfg):
    dataset = train_loader(cfg, "invalid").loader.dataset
    drawn = {gray_values([dataset[SampleKey(epoch, 1)].sample])[0] for epoch in range(30)}
    assert len(drawn) > 5
    assert not drawn & {1, 3, 4}


@pytest.mark.parametrize("workers", [0, 2])
def test_evaluation_drops_invalid_samples(cfg, workers):
    cfg.DATALOADER.NUM_WORKERS = workers
    loader = build_test_loader(cfg, "invalid")
    assert [gray_values(batch) for batch in loader] == [[0], [2], [5], [6], [7], [8], [9], [10], [11]]
    assert indices(loader) == [1, 3, 4]
    assert all(f"{sample.index:02d}.png" in sample.reason for sample in loader.skipped)
    assert len(loader) == 12


def test_valid_samples_are_not_skipped(cfg):
    loader = build_test_loader(cfg, "valid")
    assert list(chain(*map(gray_values, loader))) == list(range(12))
    assert loader.skipped == []


def test_too_many_skipped_samples_raise_with_a_list(cfg):
    cfg.DATALOADER.MAX_SKIPPED = 2
    loader = build_test_loader(cfg, "invalid")
    with pytest.raises(TooManySkippedError) as caught:
        list(loader)
    message = str(caught.value)
    assert message.startswith("3 samples are invalid")
    assert [line.split(": ")[0] for line in message.splitlines()[1:4]] == ["  sample 1", "  sample 3", "  sample 4"]
    assert "img/01.png is damaged" in message
    assert message.endswith("Received: DATALOADER.MAX_SKIPPED=2")
    cfg.DATALOADER.MAX_SKIPPED = 3
    assert len(list(build_test_loader(cfg, "invalid"))) == 9


@pytest.mark.parametrize("workers", [0, 1])
def test_training_without_any_valid_sample_raises(cfg, workers):
    cfg.DATALOADER.NUM_WORKERS = workers
    message = r"(?s)samples are invalid, but at most .*img/.*\.png is damaged. Received: 3 bytes.*MAX_SKIPPED=\d+$"
    with pytest.raises(TooManySkippedError, match=message) as caught:
        next(iter(train_loader(cfg, "all_invalid")))
    end_workers(caught)


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("name", ["invalid", "buggy"])
def test_first_error_is_raised_by_default(cfg, name, workers):
    cfg.DATALOADER.NUM_WORKERS = workers
    cfg.DATALOADER.ON_ERROR = "raise"
    error = MissingDataError if name == "invalid" else ZeroDivisionError
    loader = build_test_loader(cfg, name)
    with pytest.raises(error, match=r"img/01.png is damaged. Received: 3 bytes") as caught:
        list(loader)
    end_workers(caught)
    assert loader.skipped == []


@pytest.mark.parametrize(
    "kind", [CacheError, InvalidSampleError, MissingDataError, UnknownDatasetError, UnreadableFileError]
)
def test_command_prints_only_the_message_of_a_data_error_in_a_worker(kind, capsys):
    """A worker sends its error as text, including the tracebacks of the error and of its cause."""
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


def test_other_errors_are_never_skipped(cfg):
    for loader in (build_test_loader(cfg, "buggy"), train_loader(cfg, "buggy")):
        with pytest.raises(ZeroDivisionError, match="is damaged"):
            list(islice(loader, 6))


def test_replacement_uses_the_generator_of_the_sample():
    def dataset(invalid):
        mapper = DatasetMapper([], channel_order="RGB", num_classes=2, ignore_value=255, transform_label=True)
        return MappedDataset(Folder(invalid=invalid), mapper=mapper, seed=7)

    loaded = with_replacement(dataset((5,)), max_skipped=1)[SampleKey(2, 5)]
    rng = np.random.default_rng([7, 2, 5])
    index = int(rng.integers(12))
    valid = dataset(())
    assert torch.equal(loaded.sample["image"], valid.mapper(valid.dataset[index], rng=rng)["image"])
    assert loaded.skipped == (SkippedSample(5, "img/05.png is damaged. Received: 3 bytes"),)


def test_error_after_the_last_replacement_is_raised():
    mapper = DatasetMapper([], channel_order="RGB", num_classes=2, ignore_value=255, transform_label=True)
    all_invalid = MappedDataset(Folder(invalid=range(12), errors=(InvalidSampleError,)), mapper=mapper, seed=0)
    rng = np.random.default_rng([0, 0, 5])
    last = [5, int(rng.integers(12)), int(rng.integers(12))][-1]
    with pytest.raises(TooManySkippedError, match=rf"(?s)^3 samples are invalid.* sample {last}: img/{last:02d}\.png"):
        with_replacement(all_invalid, max_skipped=2)[SampleKey(0, 5)]


def test_samples_have_their_index(cfg):
    assert [sample["index"] for (sample,) in build_test_loader(cfg, "invalid")] == [0, 2, *range(5, 12)]
    for batch in islice(train_loader(cfg, "invalid"), 5):
        assert [f"img/{sample['index']:02d}.png" for sample in batch] == [sample["image_id"] for sample in batch]
