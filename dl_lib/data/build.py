"""Loaders from a config; one with workers leaves opencv with a single thread in this process too."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from pathlib import Path

import cv2
import torch
from fvcore.common.config import CfgNode
from torch.utils.data import ConcatDataset, Sampler

from dl_lib.config import ConfigError
from dl_lib.data.cache import cached_dataset
from dl_lib.data.catalog import DatasetCatalog
from dl_lib.data.files import datasets_root
from dl_lib.data.mapper import DatasetMapper, MappedDataset
from dl_lib.data.raw_dataset import RawDataset
from dl_lib.data.sample_loader import LoadedSample, OnError, SampleLoader, SkipInvalidSamples
from dl_lib.data.samplers import InferenceSampler, SampleKey, TrainingSampler
from dl_lib.data.transforms import (
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
    "build_train_augmentations",
    "build_train_loader",
    "local_batch_size",
]


def build_train_loader(cfg: CfgNode, *, start: int = 0) -> SampleLoader:
    """An endless loader of this process's share of the training batches.

    Args:
        cfg: DATASETS.TRAIN, DATALOADER, INPUT, SEED, the batch of SOLVER, MODEL.DEVICE and the head's classes are read.
        start: samples that all processes together have used up; the batches are those that a run from 0 has from there
            on.

    Returns:
        Gives lists of mapped samples, IMS_PER_BATCH / (number of processes * ACCUMULATION_STEPS) at a time.

    Raises:
        UnknownDatasetError: if a name in DATASETS.TRAIN is not registered.
        DataError: if a data set is not there, or its cache cannot be made.
        ValueError: if there is no data set, the batch cannot be shared out evenly, or SEED is still to be drawn.
    """
    world_size = comm.get_world_size()
    batch_size = local_batch_size(cfg, world_size=world_size)
    if not cfg.DATASETS.TRAIN:
        raise ValueError("training needs at least one data set. Received: DATASETS.TRAIN=[]")
    if cfg.SEED < 0:
        raise ValueError(f"the seed must be drawn before the loader is built. Received: SEED={cfg.SEED}")
    raw: RawDataset = ConcatDataset([_raw_dataset(cfg, name) for name in cfg.DATASETS.TRAIN])  # type: ignore
    mapper = _build_mapper(cfg, build_train_augmentations(cfg), transform_label=True)
    mapped = MappedDataset(raw, mapper=mapper, seed=cfg.SEED)
    sampler = TrainingSampler(
        len(mapped),
        seed=cfg.SEED,
        rank=comm.get_rank(),
        world_size=world_size,
        start=start,
    )
    return _build_loader(
        cfg,
        mapped,
        skip_by="replace",
        sampler=sampler,
        batch_size=batch_size,
        persistent_workers=cfg.DATALOADER.NUM_WORKERS > 0,
    )


def local_batch_size(cfg: CfgNode, *, world_size: int) -> int:
    """Return the number of images in one forward pass of one process.

    Args:
        cfg: `SOLVER.IMS_PER_BATCH` and `SOLVER.ACCUMULATION_STEPS` are read.
        world_size: Number of processes.

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
    """A loader of this process's share of a data set: in order, one image at a time.

    Args:
        cfg: DATALOADER, INPUT, MODEL.DEVICE and the head's classes are read.
        dataset_name: as registered in the catalog.
        transform_label: whether the label follows the image's resize, as losses want it, or stays as it is, as scores
            want it.

    Returns:
        Gives lists of one mapped sample; its `skipped` are those that were left out.

    Raises:
        UnknownDatasetError: if the name is not registered.
        DataError: if the data set is not there, or its cache cannot be made.
    """
    mapped = build_test_dataset(cfg, dataset_name, transform_label=transform_label)
    return _build_loader(
        cfg,
        mapped,
        skip_by="drop",
        sampler=InferenceSampler(len(mapped), rank=comm.get_rank(), world_size=comm.get_world_size()),
        batch_size=1,
    )


def build_test_dataset(cfg: CfgNode, dataset_name: str, *, transform_label: bool = False) -> MappedDataset:
    """What `build_test_loader` loads; the arguments and errors are the same."""
    mapper = _build_mapper(cfg, build_test_augmentations(cfg), transform_label=transform_label)
    return MappedDataset(_raw_dataset(cfg, dataset_name), mapper=mapper, seed=0)  # nothing is left to chance here


def build_train_augmentations(cfg: CfgNode) -> list[Augmentation]:
    """Resize, flip, rotation, crop, colours, blur, as far as `INPUT` asks for them.

    Colours and blur come last, where there are the fewest pixels; they also change what the crop is padded with.
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
    if inputs.CROP_SIZE:
        share = inputs.CROP_MAX_CLASS_RATIO
        augmentations.append(RandomCropPad(tuple(inputs.CROP_SIZE), max_class_ratio=share, **pads))
    if inputs.PHOTOMETRIC.ENABLED:
        augmentations.append(_build_photometric(inputs.PHOTOMETRIC))
    if inputs.BLUR_PROB > 0:
        augmentations.append(RandomBlur(inputs.BLUR_PROB, tuple(inputs.BLUR_SIGMA)))
    return augmentations


def build_test_augmentations(cfg: CfgNode) -> list[Augmentation]:
    """Resize, if `INPUT` asks for it."""
    if not cfg.INPUT.MIN_SIZE_TEST:
        return []
    return [ResizeShortestEdge((cfg.INPUT.MIN_SIZE_TEST,), cfg.INPUT.MAX_SIZE_TEST, cfg.INPUT.BACKEND)]


def _build_photometric(cfg: CfgNode) -> PhotometricDistortion:
    return PhotometricDistortion(
        brightness=cfg.BRIGHTNESS, contrast=cfg.CONTRAST, saturation=cfg.SATURATION, hue_degrees=cfg.HUE_DEGREES
    )


def _raw_dataset(cfg: CfgNode, name: str) -> RawDataset:
    dataset = DatasetCatalog.get(name)
    if cfg.DATALOADER.CACHE != "memmap":
        return dataset
    folder = Path(cfg.DATALOADER.CACHE_DIR or datasets_root() / ".cache")
    return cached_dataset(dataset, name=name, folder=folder.expanduser())


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
    skip_by: OnError,
    sampler: Sampler[SampleKey],
    batch_size: int,
    persistent_workers: bool = False,
) -> SampleLoader:
    if cfg.DATALOADER.NUM_WORKERS > 0:
        # Here and not only in the workers: where workers are forked (on Linux up to Python 3.13), one inherits
        # opencv's thread pool without its threads, and waits for them for ever when it uses the pool or changes its
        # size. With one thread there is no pool.
        cv2.setNumThreads(1)
    settings = cfg.DATALOADER
    on_error = skip_by if settings.ON_ERROR == "skip" else "raise"
    progress = WorkerProgress(mapped.dataset, num_workers=settings.NUM_WORKERS)
    loader = MonitoredDataLoader(
        SkipInvalidSamples(mapped, on_error=on_error, max_skipped=settings.MAX_SKIPPED, progress=progress),
        progress=progress,
        batch_size=batch_size,
        sampler=sampler,
        num_workers=settings.NUM_WORKERS,
        collate_fn=_as_list,
        # From pinned memory a GPU fetches the images while the CPU goes on.
        pin_memory=cfg.MODEL.DEVICE != "cpu" and torch.cuda.is_available(),
        worker_init_fn=_set_up_worker,
        persistent_workers=persistent_workers,
        # The loader draws a number for its workers, which use none; it must not come out of the training's generator.
        generator=torch.Generator(),
    )
    return SampleLoader(loader, max_skipped=settings.MAX_SKIPPED)


def _as_list(samples: list[LoadedSample]) -> list[LoadedSample]:
    """Images differ in size, so a batch stays a list; the model pads it."""
    return samples


def _set_up_worker(worker: int) -> None:
    """Workers are the parallelism: threads inside them would only get in each other's way. Torch sees to its own.

    Terminals and schedulers send their signals to every process; when workers end is the main process's business. Torch
    only asks with a signal those that do not end by themselves.
    """
    cv2.setNumThreads(1)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)
