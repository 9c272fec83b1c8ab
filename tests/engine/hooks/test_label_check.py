"""Warnings about training labels without some class, and the error for datasets without labelled pixels."""

import time

import numpy as np
import pytest

from dl_lib.config import get_cfg
from dl_lib.data.build import build_train_loader
from dl_lib.data.catalog import Catalog, DatasetCatalog, DatasetMeta
from dl_lib.data.datasets.folder import FolderSource
from dl_lib.data.errors import DataError, UnreadableFileError
from dl_lib.data.label_watch import EpochWatch, scan_labels
from dl_lib.engine.hooks import label_check as module
from dl_lib.engine.hooks.label_check import LabelCheck
from dl_lib.utils import comm
from tests.helpers.dataset_files import save_png

META = DatasetMeta(("road", "car", "sky"), ((0, 0, 0), (1, 1, 1), (2, 2, 2)))
HINT = "255 is the ignore value, not a class; map files with other ids, such as masks of 0 and 255, with LABEL_MAP"


class Samples:
    """Dataset whose labels have one value each; None is an unreadable one."""

    def __init__(self, *values, size=(4, 4)):
        self.values, self.size = values, size

    def __len__(self):
        return len(self.values)

    def __getitem__(self, index):
        if self.values[index] is None:
            raise UnreadableFileError("damaged. Received: nothing")
        label = np.full(self.size, self.values[index], np.uint8)
        return {"image": np.zeros((*self.size, 3), np.uint8), "sem_seg": label, "image_id": "i", "file_name": "f"}


class FakeTrainer:
    """State of a trainer that a hook reads; `run` consumes batches as the trainer does."""

    def __init__(self, cfg, *, start=0):
        self.loader = build_train_loader(cfg, start=start)
        self.start_iteration = self.iteration = start // cfg.SOLVER.IMS_PER_BATCH
        self.max_iter = 100

    def run(self, hook, steps):
        hook.before_train(self)
        batches = iter(self.loader)
        for _ in range(steps):
            next(batches)
            self.iteration += 1
            hook.after_step(self)


@pytest.fixture
def config(monkeypatch):
    """Return a function that registers datasets and returns the config of a run on them."""
    monkeypatch.setattr(DatasetCatalog, "_entries", dict(DatasetCatalog._entries))
    return make_config


def make_config(*datasets, images=2, meta=META):
    for number, dataset in enumerate(datasets):
        DatasetCatalog.register(f"set{number}", lambda dataset=dataset: dataset, meta)
    cfg = get_cfg()
    cfg.merge_from_list(["DATALOADER.NUM_WORKERS", 0, "MODEL.SEM_SEG_HEAD.NUM_CLASSES", 3, "INPUT.CROP_SIZE", [2, 2]])
    cfg.merge_from_list(["SOLVER.IMS_PER_BATCH", images, "DATASETS.TRAIN", [f"set{n}" for n in range(len(datasets))]])
    return cfg


def run(cfg, *, steps, start=0):
    hook = LabelCheck(cfg.DATASETS.TRAIN, images_per_step=cfg.SOLVER.IMS_PER_BATCH)
    FakeTrainer(cfg, start=start).run(hook, steps)


@pytest.mark.parametrize(
    ("datasets", "warnings"),
    [
        ([Samples(0, 1, 2)], []),
        ([Samples(0, 1), Samples(2, 2)], []),  # a class may be in one of the datasets only
        ([Samples(0, 1, 255)], ["of set0: no pixel of class 'sky' (3 labels read)"]),
        ([Samples(0, 255), Samples(0)], ["of set0, set1: no pixel of classes 'car', 'sky' (3 labels read)"]),
        ([Samples(255, 255)], ["of set0: all pixels have the ignore value 255 (2 labels read)"]),
        (
            [Samples(0, 1, 2, *[255] * 28)],
            ["of set0: 90.3 % of the pixels have the ignore value 255 (31 labels read)"],
        ),
        (
            [Samples(*[0] * 600)],
            ["of set0: no pixel of classes 'car', 'sky' (256 labels read)"],
        ),  # a sample of a large dataset
        ([Samples(*[0, 1] * 200, 2)], []),
        ([Samples(0, 1, None)], []),  # the loader reports the file
    ],
)
def test_labels_are_scanned_at_the_start(config, caplog, datasets, warnings):
    run(config(*datasets), steps=0)
    assert len(caplog.messages) == len(warnings)
    for message, warning in zip(caplog.messages, warnings, strict=True):
        assert warning in message and HINT in message


def test_imbalanced_classes_are_named_at_the_start(config, caplog):
    run(config(Samples(0, 1, size=(60, 60)), Samples(2, size=(1, 3))), steps=0)
    (message,) = caplog.messages
    assert message.startswith("Training labels of set0, set1 (3 labels read): Class imbalance of 1:1,200")


def test_sparse_annotations_may_be_mostly_ignored(config, caplog):
    meta = DatasetMeta(META.class_names, META.class_colors, sparse=True)
    run(config(Samples(0, 1, 2, *[255] * 97), meta=meta), steps=0)
    assert not caplog.messages


def test_the_scan_is_limited_and_does_not_use_the_dataset_of_the_loader(config, monkeypatch):
    opened = []

    class Slow(Samples):
        def __getitem__(self, index):
            time.sleep(0.02)
            opened.append(id(self))
            return super().__getitem__(index)

    cfg = config(Samples(0))
    monkeypatch.setattr(DatasetCatalog, "_entries", {"set0": DatasetCatalog._entries["set0"]})
    catalog = Catalog()
    catalog.register("set0", lambda: Slow(*[0] * 1000), META)
    monkeypatch.setattr(module, "DatasetCatalog", catalog)
    monkeypatch.setattr(module, "_MAX_SCAN_SECONDS", 0.1)
    run(cfg, steps=0)
    assert 1 <= len(opened) <= 10
    assert scan_labels(Samples(*range(250)), max_seconds=9).is_complete
    assert scan_labels(Samples(*[0] * 300), max_seconds=9).num_labels == 256


def test_labels_of_files_are_read_without_the_images(tmp_path, monkeypatch):
    monkeypatch.setenv("DL_DATASETS", str(tmp_path))
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.png").write_bytes(b"damaged")
    save_png(tmp_path / "labels" / "a.png", np.array([[0, 1, 255]], np.uint8))
    dataset = FolderSource("images", "labels", META.class_names)()
    assert scan_labels(dataset, max_seconds=9).pixels == {0: 1, 1: 1, 255: 1}


@pytest.mark.parametrize(("start", "steps"), [(0, 3), (3, 5), (6, 3)])  # 3 steps are an epoch
def test_a_dataset_without_labelled_pixels_ends_the_run_after_an_epoch(config, start, steps):
    cfg = config(Samples(0, 1, 2), Samples(255, 255, 255))
    run(cfg, steps=steps - 1, start=start)
    message = r"no labelled pixel in a whole epoch of set1: .*LABEL_MAP.*check-dataset set1.*\['set0', 'set1'\]"
    with pytest.raises(DataError, match=message):
        run(cfg, steps=steps, start=start)


def test_a_class_without_pixels_in_an_epoch_is_a_warning(config, caplog):
    cfg = config(Samples(0, 1, 255))
    run(cfg, steps=1)
    caplog.clear()
    run(cfg, steps=9)  # once, although this is six epochs
    assert ["whole epoch" in message for message in caplog.messages] == [False, True]
    assert "No pixel of class 'sky' in a whole epoch (epoch 0 of set0)" in caplog.text and HINT in caplog.text


def test_pixels_that_the_crop_removes_are_no_error(config, monkeypatch):
    """Labels with few labelled pixels, which crops may miss for a whole epoch."""
    sparse = Samples(255, size=(400, 400))
    one = sparse[0]
    one["sem_seg"][200, 200] = 1
    monkeypatch.setattr(Samples, "__getitem__", lambda self, index: one)
    run(config(sparse, images=1), steps=3)


def test_the_watched_epoch_follows_the_resumed_position():
    datasets = [Samples(0, 1, 2), Samples(0, 1)]
    ends = {
        start: (watch.epoch, watch.end) for start in (0, 1, 5, 8) for watch in [EpochWatch.of(datasets, start=start)]
    }
    assert ends == {0: (0, 5), 1: (1, 9), 5: (1, 5), 8: (2, 7)}


@pytest.mark.parametrize("values", [(255, 255, 0, 255), (255, 255, 255, 255)])
def test_processes_are_compared_once_per_run(config, monkeypatch, values):
    """A labelled image that another process has used counts, too."""
    cfg, gathered = config(Samples(*values)), []
    monkeypatch.setattr(comm, "get_world_size", lambda: 2)
    monkeypatch.setattr(comm, "all_gather", lambda own: gathered.append(own) or [own, other])
    for rank in (0, 1):
        monkeypatch.setattr(comm, "get_rank", lambda rank=rank: 1 - rank)
        loader = build_train_loader(cfg)
        batches = iter(loader)
        assert len(next(batches) + next(batches)) == 2  # its half of the epoch
        other = loader.watch.labelled, loader.watch.classes
        monkeypatch.setattr(comm, "get_rank", lambda rank=rank: rank)
        if 0 in values:
            run(cfg, steps=6)
        else:
            with pytest.raises(DataError, match="no labelled pixel in a whole epoch of set0"):
                run(cfg, steps=2)
    assert len(gathered) == 2
    assert [bool(labelled) for labelled, _ in gathered].count(True) == (0 in values)
