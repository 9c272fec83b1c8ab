"""Data loaders built from a config.

A loader with workers sets OpenCV to a single thread in the calling process, too.
"""

from __future__ import annotations

import signal
from collections.abc import Sequence

import cv2
import torch
from fvcore.common.config import CfgNode
from torch.utils.data import ConcatDataset, Sampler

from dl_lib.config import ConfigError
from dl_lib.config.crop_size import resolved_crop
from dl_lib.config.paths import datasets_root
from dl_lib.data.cache import cached_dataset
from dl_lib.data.catalog import DatasetCatalog
from dl_lib.data.label_watch import EpochWatch
from dl_lib.data.mapper import DatasetMapper, MappedDataset
from dl_lib.data.raw_dataset import RawDataset
from dl_lib.data.sample_loader import LoadedSample, OnError, SampleLoader, SkipInvalidSamples
from dl_lib.data.samplers import InferenceSampler, SampleKey, TrainingSampler
from dl_lib.data.transforms import (
    AUGMENTATION_REGISTRY,
    Augmentation,
    PhotometricDistortion,
    RandomBlur,
    RandomCropPad,
    RandomFlip,
    RandomRotation,
    RandomScale,
    ResizeShortestEdge,
)
from dl_lib.data.workers import MonitoredDataLoader, WorkerProgress
from dl_lib.utils import comm

__all__ = [
    "build_test_augmentations",
    "build_test_dataset",
    "build_test_loader",
    "build_test_mapper",
    "build_train_augmentations",
    "build_train_loader",
    "local_batch_size",
]


def build_train_loader(cfg: CfgNode, *, start: int = 0) -> SampleLoader:
    """Build the infinite training loader of the current rank: lists of `local_batch_size` mapped samples.

    Args:
        cfg: Config; uses `DATASETS.TRAIN`, `DATALOADER`, `INPUT`, `SEED`, the batch size of `SOLVER`, `MODEL.DEVICE`
            and the classes of the head.
        start: Number of samples already consumed by all ranks together, to resume a run: the loader continues with the
            batches that a loader with start=0 would produce next.

    Raises:
        UnknownDatasetError: If a name in `DATASETS.TRAIN` is not registered.
        DataError: If a dataset is missing, or its cache cannot be built.
        ConfigError: If the batch cannot be split evenly over processes and accumulation steps.
        ValueError: If `DATASETS.TRAIN` is empty or `SEED` is negative.
    """
    world_size = comm.get_world_size()
    batch_size = local_batch_size(cfg, world_size=world_size)
    if not cfg.DATASETS.TRAIN:
        raise ValueError("DATASETS.TRAIN must name at least one dataset. Received: DATASETS.TRAIN=[]")
    if cfg.SEED < 0:
        raise ValueError(
            "SEED must not be negative: draw a random seed, the same on all ranks, before building the loader. "
            f"Received: SEED={cfg.SEED}"
        )
    datasets = [_raw_dataset(cfg, name) for name in cfg.DATASETS.TRAIN]
    raw: RawDataset = ConcatDataset(datasets)  # type: ignore
    mapper = _build_mapper(cfg, build_train_augmentations(cfg), transform_label=True)
    mapped = MappedDataset(raw, mapper=mapper, seed=cfg.SEED)
    sampler = TrainingSampler(len(mapped), seed=cfg.SEED, rank=comm.get_rank(), world_size=world_size, start=start)
    persistent = cfg.DATALOADER.NUM_WORKERS > 0
    return _build_loader(
        cfg,
        mapped,
        skip_policy="replace",
        sampler=sampler,
        batch_size=batch_size,
        persistent_workers=persistent,
        watch=EpochWatch.of(datasets, start=start),
    )


def local_batch_size(cfg: CfgNode, *, world_size: int) -> int:
    """Return the number of images in one forward pass of one process.

    Raises:
        ConfigError: If the batch cannot be split evenly over processes and accumulation steps.
    """
    images, steps = cfg.SOLVER.IMS_PER_BATCH, cfg.SOLVER.ACCUMULATION_STEPS
    passes = world_size * steps
    if images < 1 or images % passes:
        lower = images // passes * passes
        choices = " or ".join(str(multiple) for multiple in (lower, lower + passes) if multiple > 0)
        accumulated = f" times SOLVER.ACCUMULATION_STEPS ({steps})" if steps > 1 else ""
        raise ConfigError(
            f"SOLVER.IMS_PER_BATCH must be divisible by the number of processes ({world_size}){accumulated}; "
            f"use {choices}. Received: SOLVER.IMS_PER_BATCH={images}"
        )
    return images // passes


def build_test_loader(cfg: CfgNode, dataset_name: str, *, transform_label: bool = False) -> SampleLoader:
    """Build the evaluation loader of the current rank: its part of the dataset, in order, with batch size 1.

    Its `skipped` lists the invalid samples that were dropped.

    Args:
        cfg: Config; uses `DATALOADER`, `INPUT`, `MODEL.DEVICE` and the classes of the head.
        dataset_name: Name in the catalog.
        transform_label: Whether to resize the label with the image, as needed for a loss. By default it keeps its size,
            as needed for evaluation scores.

    Raises:
        UnknownDatasetError: If the name is not registered.
        DataError: If the dataset is missing, or its cache cannot be built.
    """
    mapped = build_test_dataset(cfg, dataset_name, transform_label=transform_label)
    sampler = InferenceSampler(len(mapped), rank=comm.get_rank(), world_size=comm.get_world_size())
    return _build_loader(cfg, mapped, skip_policy="drop", sampler=sampler, batch_size=1)


def build_test_dataset(cfg: CfgNode, dataset_name: str, *, transform_label: bool = False) -> MappedDataset:
    """Build the dataset of `build_test_loader`, with the same arguments and errors."""
    mapper = build_test_mapper(cfg, transform_label=transform_label)
    # The seed has no effect: the transforms of evaluation are deterministic.
    return MappedDataset(_raw_dataset(cfg, dataset_name), mapper=mapper, seed=0)


def build_test_mapper(cfg: CfgNode, *, transform_label: bool = False) -> DatasetMapper:
    """Build the mapper of `build_test_loader` from raw samples to model inputs."""
    return _build_mapper(cfg, build_test_augmentations(cfg), transform_label=transform_label)


def build_train_augmentations(cfg: CfgNode) -> list[Augmentation]:
    """Build the training augmentations enabled in `INPUT`: resize, flip, rotation, crop, color distortion, blur, own.

    Color distortion and blur follow the crop, where the number of pixels is smallest; they also apply to its padding.

    Raises:
        ConfigError: If the crop is automatic and was not measured.
    """
    inputs, ignore_value = cfg.INPUT, cfg.MODEL.SEM_SEG_HEAD.IGNORE_VALUE
    pads = {"image_pad": inputs.CROP_IMAGE_PAD_VALUE, "label_pad": ignore_value}
    augmentations: list[Augmentation] = []
    if inputs.SCALE_RANGE_TRAIN:
        augmentations.append(RandomScale(tuple(inputs.SCALE_RANGE_TRAIN), inputs.MAX_SIZE_TRAIN, inputs.BACKEND))
    elif inputs.MIN_SIZE_TRAIN:
        augmentations.append(ResizeShortestEdge(tuple(inputs.MIN_SIZE_TRAIN), inputs.MAX_SIZE_TRAIN, inputs.BACKEND))
    if inputs.FLIP_PROB > 0:
        augmentations.append(RandomFlip(inputs.FLIP_PROB))
    if inputs.ROTATION_DEGREES > 0:
        augmentations.append(RandomRotation(inputs.ROTATION_DEGREES, **pads))
    if crop := resolved_crop(cfg):
        height, width = crop
        augmentations.append(RandomCropPad((height, width), max_class_ratio=inputs.CROP_MAX_CLASS_RATIO, **pads))
    if inputs.PHOTOMETRIC.ENABLED:
        limits = {key.lower(): value for key, value in inputs.PHOTOMETRIC.items() if key != "ENABLED"}
        augmentations.append(PhotometricDistortion(**limits))
    if inputs.BLUR_PROB > 0:
        augmentations.append(RandomBlur(inputs.BLUR_PROB, tuple(inputs.BLUR_SIGMA)))
    return augmentations + [AUGMENTATION_REGISTRY.get(name)(cfg) for name in inputs.EXTRA_AUGMENTATIONS]


def build_test_augmentations(cfg: CfgNode) -> list[Augmentation]:
    """Build the evaluation augmentations enabled in `INPUT`: at most a resize."""
    if not cfg.INPUT.MIN_SIZE_TEST:
        return []
    return [ResizeShortestEdge((cfg.INPUT.MIN_SIZE_TEST,), cfg.INPUT.MAX_SIZE_TEST, cfg.INPUT.BACKEND)]


def _raw_dataset(cfg: CfgNode, name: str) -> RawDataset:
    dataset = DatasetCatalog.get(name)
    if cfg.DATALOADER.CACHE != "memmap":
        return dataset
    return cached_dataset(dataset, name=name, folder=datasets_root() / (cfg.DATALOADER.CACHE_DIR or ".cache"))


def _build_mapper(cfg: CfgNode, augmentations: Sequence[Augmentation], *, transform_label: bool) -> DatasetMapper:
    return DatasetMapper(
        augmentations,
        channel_order=cfg.INPUT.FORMAT,
        num_classes=cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES,
        ignore_value=cfg.MODEL.SEM_SEG_HEAD.IGNORE_VALUE,
        transform_label=transform_label,
    )


def _build_loader(
    cfg: CfgNode,
    mapped: MappedDataset,
    *,
    skip_policy: OnError,
    sampler: Sampler[SampleKey],
    batch_size: int,
    persistent_workers: bool = False,
    watch: EpochWatch | None = None,
) -> SampleLoader:
    settings = cfg.DATALOADER
    if settings.NUM_WORKERS > 0:
        # Needed in the parent, too: a forked worker (Linux, up to Python 3.13) inherits OpenCV's thread pool without
        # its threads and deadlocks when it uses or resizes the pool. With a single thread there is no pool.
        cv2.setNumThreads(1)
    on_error = skip_policy if settings.ON_ERROR == "skip" else "raise"
    progress = WorkerProgress(mapped.dataset, num_workers=settings.NUM_WORKERS)
    loader = MonitoredDataLoader(
        SkipInvalidSamples(
            mapped,
            on_error=on_error,
            max_skipped=settings.MAX_SKIPPED,
            progress=progress,
            watched_epoch=None if watch is None else watch.epoch,
        ),
        progress=progress,
        batch_size=batch_size,
        sampler=sampler,
        num_workers=settings.NUM_WORKERS,
        collate_fn=_collate_as_list,
        # Copies from pinned memory to a GPU are asynchronous.
        pin_memory=cfg.MODEL.DEVICE != "cpu" and torch.cuda.is_available(),
        worker_init_fn=_init_worker,
        persistent_workers=persistent_workers,
        # The loader draws a base seed for its workers, which do not use it; with its own generator it leaves the
        # global random state of the training run unchanged.
        generator=torch.Generator(),
    )
    return SampleLoader(loader, max_skipped=settings.MAX_SKIPPED, watch=watch)


def _collate_as_list(samples: list[LoadedSample]) -> list[LoadedSample]:
    # Images differ in size; the model pads and stacks them.
    return samples


def _init_worker(worker: int) -> None:
    """Restrict OpenCV to one thread, as torch does for its own, and ignore the signals meant for the main process.

    Terminals and job schedulers signal every process of a group, but the main process decides when workers exit. Torch
    sends SIGTERM only to workers that did not exit on their own.
    """
    cv2.setNumThreads(1)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)
