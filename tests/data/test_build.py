import multiprocessing
import os
import signal
from itertools import islice

import cv2
import numpy as np
import pytest
import torch
from torch.utils.data._utils.pin_memory import pin_memory

from dl_lib.config.defaults import DEFAULTS
from dl_lib.data import build_test_loader, build_train_loader
from dl_lib.data.build import build_test_augmentations, build_train_augmentations
from dl_lib.data.catalog import DatasetCatalog
from dl_lib.data.errors import UnknownDatasetError
from dl_lib.data.transforms import (
    PhotometricDistortion,
    RandomBlur,
    RandomCropPad,
    RandomFlip,
    RandomRotation,
    RandomScale,
    ResizeShortestEdge,
)
from dl_lib.utils import comm


@pytest.fixture
def cfg():
    cfg = DEFAULTS.clone()
    cfg.DATASETS.TRAIN = ["digit_scenes_train", "digit_scenes_val"]
    cfg.DATALOADER.NUM_WORKERS = 0
    cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES = 11
    cfg.INPUT.MIN_SIZE_TRAIN = [96, 128, 160]
    cfg.INPUT.CROP_SIZE = [112, 144]
    cfg.INPUT.MIN_SIZE_TEST = 0
    cfg.SOLVER.IMS_PER_BATCH = 4
    return cfg


def mock_rank(monkeypatch, rank, world_size):
    monkeypatch.setattr(comm, "get_rank", lambda: rank)
    monkeypatch.setattr(comm, "get_world_size", lambda: world_size)


def assert_same(left, right):
    assert [sample["image_id"] for sample in left] == [sample["image_id"] for sample in right]
    for one, other in zip(left, right, strict=True):
        assert torch.equal(one["image"], other["image"])
        assert torch.equal(one["sem_seg"], other["sem_seg"])


def test_batches_do_not_depend_on_the_number_of_workers(cfg):
    alone = list(islice(build_train_loader(cfg), 3))
    assert [len(batch) for batch in alone] == [4, 4, 4]
    assert all(sample["image"].shape == (3, 112, 144) == (3, *sample["sem_seg"].shape) for sample in alone[0])
    cfg.DATALOADER.NUM_WORKERS = 2
    for left, right in zip(alone, build_train_loader(cfg), strict=False):
        assert_same(left, right)


def test_batches_do_not_depend_on_the_start_method(cfg):
    """The default start method is forkserver since Python 3.14, and spawn on macOS and Windows."""
    alone = next(iter(build_train_loader(cfg)))
    cfg.DATALOADER.NUM_WORKERS = 1
    loader = build_train_loader(cfg)
    loader.loader.multiprocessing_context = "forkserver"
    assert_same(next(iter(loader)), alone)


def test_workers_ignore_sigint(cfg):
    cfg.DATALOADER.NUM_WORKERS = 1
    batches = iter(build_train_loader(cfg))
    next(batches)
    for worker in multiprocessing.active_children():
        os.kill(worker.pid, signal.SIGINT)
    assert len(list(islice(batches, 8))) == 8  # more than are prefetched


def test_workers_start_after_opencv_used_threads_in_the_parent(cfg):
    """A worker forked from a process with a running thread pool would deadlock in OpenCV."""
    cv2.setNumThreads(2)
    cv2.resize(np.zeros((2000, 2000, 3), np.float32), (3000, 3000), interpolation=cv2.INTER_CUBIC)
    cfg.DATALOADER.NUM_WORKERS = 1
    assert len(list(islice(build_test_loader(cfg, "digit_scenes_val"), 5))) == 5


def test_start_resumes_the_stream_of_batches(cfg):
    whole = list(islice(build_train_loader(cfg), 3))
    assert_same(next(iter(build_train_loader(cfg, start=2 * cfg.SOLVER.IMS_PER_BATCH))), whole[2])


def test_ranks_split_each_batch(cfg, monkeypatch):
    whole = list(islice(build_train_loader(cfg), 2))
    shards = []
    for rank in range(2):
        mock_rank(monkeypatch, rank, 2)
        shards.append(list(islice(build_train_loader(cfg), 2)))
    for step in range(2):
        merged = [sample for pair in zip(shards[0][step], shards[1][step], strict=True) for sample in pair]
        assert_same(merged, whole[step])


def test_test_loader_returns_each_image_once_in_order_and_unchanged(cfg, monkeypatch):
    cfg.DATALOADER.NUM_WORKERS = 2
    scenes = DatasetCatalog.get("digit_scenes_val")
    batches = []
    for rank in range(3):
        mock_rank(monkeypatch, rank, 3)
        loader = build_test_loader(cfg, "digit_scenes_val")
        shard = list(loader)
        assert len(shard) == len(loader)
        batches += shard
    assert [len(batch) for batch in batches] == [1] * 200
    assert [batch[0]["image_id"] for batch in batches] == [f"val_{index:06d}" for index in range(200)]
    for index in (0, 77, 199):
        np.testing.assert_array_equal(batches[index][0]["sem_seg"], scenes[index]["sem_seg"])
        np.testing.assert_array_equal(batches[index][0]["image"].permute(1, 2, 0), scenes[index]["image"][..., ::-1])


def test_loading_keeps_the_global_random_state(cfg):
    torch.manual_seed(0)
    np.random.seed(0)
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()
    next(iter(build_train_loader(cfg)))
    next(iter(build_test_loader(cfg, "digit_scenes_val")))
    assert torch.equal(torch.get_rng_state(), torch_state)
    np.testing.assert_array_equal(np.random.get_state()[1], numpy_state)


def test_default_augmentations_follow_the_config(cfg):
    assert build_train_augmentations(cfg) == [
        ResizeShortestEdge((96, 128, 160), 4096, "cv2"),
        RandomFlip(0.5),
        RandomCropPad((112, 144), image_pad=0, label_pad=255),
    ]
    assert build_test_augmentations(cfg) == []
    cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.FLIP_PROB, cfg.INPUT.CROP_SIZE = [], 0.0, []
    cfg.INPUT.MIN_SIZE_TEST = 100
    assert build_train_augmentations(cfg) == []
    assert build_test_augmentations(cfg) == [ResizeShortestEdge((100,), 2048, "cv2")]


def test_all_augmentations_follow_the_config(cfg):
    cfg.INPUT.BACKEND = "pil"
    assert build_train_augmentations(cfg)[0] == ResizeShortestEdge((96, 128, 160), 4096, "pil")
    cfg.INPUT.SCALE_RANGE_TRAIN = [0.5, 2]  # takes precedence over MIN_SIZE_TRAIN
    cfg.INPUT.ROTATION_DEGREES = 10.0
    cfg.INPUT.CROP_MAX_CLASS_RATIO = 0.75
    cfg.INPUT.CROP_IMAGE_PAD_VALUE = 7
    cfg.MODEL.SEM_SEG_HEAD.IGNORE_VALUE = 254
    cfg.INPUT.BLUR_PROB, cfg.INPUT.BLUR_SIGMA = 0.4, [0.2, 1.0]
    cfg.INPUT.PHOTOMETRIC.ENABLED = True
    cfg.INPUT.PHOTOMETRIC.BRIGHTNESS, cfg.INPUT.PHOTOMETRIC.CONTRAST = 20.0, 0.3
    cfg.INPUT.PHOTOMETRIC.SATURATION, cfg.INPUT.PHOTOMETRIC.HUE_DEGREES = 0.2, 9.0
    cfg.INPUT.MIN_SIZE_TEST = 100
    assert build_train_augmentations(cfg) == [
        RandomScale((0.5, 2), 4096, "pil"),
        RandomFlip(0.5),
        RandomRotation(10.0, image_pad=7, label_pad=254),
        RandomCropPad((112, 144), image_pad=7, label_pad=254, max_class_ratio=0.75),
        PhotometricDistortion(brightness=20.0, contrast=0.3, saturation=0.2, hue_degrees=9.0),
        RandomBlur(0.4, (0.2, 1.0)),
    ]
    assert build_test_augmentations(cfg) == [ResizeShortestEdge((100,), 2048, "pil")]


def test_batch_with_all_augmentations_is_valid_and_deterministic(cfg):
    cfg.INPUT.SCALE_RANGE_TRAIN, cfg.INPUT.ROTATION_DEGREES, cfg.INPUT.CROP_MAX_CLASS_RATIO = [0.8, 1.6], 20.0, 0.9
    cfg.INPUT.BLUR_PROB, cfg.INPUT.PHOTOMETRIC.ENABLED = 0.5, True
    batch, again = (next(iter(build_train_loader(cfg))) for _ in range(2))
    assert_same(batch, again)
    for sample in batch:
        assert sample["image"].shape == (3, 112, 144) == (3, *sample["sem_seg"].shape)
        assert (sample["image"].dtype, sample["sem_seg"].dtype) == (torch.uint8, torch.uint8)


@pytest.mark.parametrize(
    ("device", "has_gpu", "pins"), [("auto", True, True), ("auto", False, False), ("cpu", True, False)]
)
def test_memory_is_pinned_for_a_gpu_only(cfg, monkeypatch, device, has_gpu, pins):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: has_gpu)
    cfg.MODEL.DEVICE = device
    for loader in (build_train_loader(cfg), build_test_loader(cfg, "digit_scenes_val")):
        assert loader.loader.pin_memory == pins


def test_pinning_reaches_all_tensors_and_keeps_the_memory_format(cfg, monkeypatch):
    """Run torch's pin_memory on a batch, with a mock in place of the copy, which needs a GPU."""
    pinned = []

    def pin(tensor, *_):
        pinned.append(tensor.clone())
        return pinned[-1]

    monkeypatch.setattr(torch.Tensor, "pin_memory", pin)
    loader = build_train_loader(cfg).loader
    keys = list(islice(loader.sampler, 2))
    batch = pin_memory(loader.collate_fn([loader.dataset[key] for key in keys]))
    assert len(pinned) == 4
    for loaded, key in zip(batch, keys, strict=True):
        assert any(loaded.sample["image"] is tensor for tensor in pinned)
        assert any(loaded.sample["sem_seg"] is tensor for tensor in pinned)
        assert loaded.sample["image"].permute(1, 2, 0).is_contiguous()
        assert torch.equal(loaded.sample["image"], loader.dataset[key].sample["image"])


def test_cached_samples_equal_uncached_samples(cfg, tmp_path):
    cfg.DATASETS.TRAIN = ["digit_scenes_val"]
    batch, image = next(iter(build_train_loader(cfg))), next(iter(build_test_loader(cfg, "digit_scenes_val")))
    cfg.DATALOADER.CACHE, cfg.DATALOADER.CACHE_DIR = "memmap", str(tmp_path / "cache")
    assert_same(next(iter(build_train_loader(cfg))), batch)
    assert (tmp_path / "cache" / "digit_scenes_val.cache").is_file()
    assert_same(next(iter(build_test_loader(cfg, "digit_scenes_val"))), image)
    cfg.DATALOADER.NUM_WORKERS = 2
    assert_same(next(iter(build_train_loader(cfg))), batch)


def test_cache_is_in_the_datasets_root_by_default(cfg, root, own_catalog, monkeypatch):
    scenes = DatasetCatalog.get("digit_scenes_val")
    monkeypatch.setattr(scenes, "_length", 3)
    DatasetCatalog.register("three", lambda: scenes, DatasetCatalog.meta("digit_scenes_val"))
    cfg.DATALOADER.CACHE = "memmap"
    assert len(list(build_test_loader(cfg, "three"))) == 3
    assert (root / ".cache" / "three.cache").is_file()


def test_label_with_unknown_classes_raises_with_its_image(cfg):
    cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES = 2
    with pytest.raises(ValueError, match=r"of image 'train_.*class id \(0..1\)"):
        next(iter(build_train_loader(cfg)))


def test_invalid_config_raises(cfg, monkeypatch):
    cfg.SEED = -1
    with pytest.raises(ValueError, match=r"Received: SEED=-1$"):
        build_train_loader(cfg)
    cfg.SEED = 0
    mock_rank(monkeypatch, 0, 3)
    with pytest.raises(ValueError, match=r"number of processes \(3\).*IMS_PER_BATCH=4$"):
        build_train_loader(cfg)
    mock_rank(monkeypatch, 0, 1)
    cfg.DATASETS.TRAIN = ["digit_scenes_training"]
    with pytest.raises(UnknownDatasetError, match="digit_scenes_train"):
        build_train_loader(cfg)
    cfg.DATASETS.TRAIN = []
    with pytest.raises(ValueError, match="at least one dataset"):
        build_train_loader(cfg)
