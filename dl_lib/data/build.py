"""Loaders from a config; one with workers leaves opencv with a single thread in this process too."""

from __future__ import annotations

import signal
from typing import Any

import cv2
import torch
from fvcore.common.config import CfgNode
from torch.utils.data import ConcatDataset, DataLoader

from dl_lib.data.catalog import DatasetCatalog, RawDataset
from dl_lib.data.mapper import DatasetMapper, MappedDataset
from dl_lib.data.samplers import InferenceSampler, TrainingSampler
from dl_lib.data.transforms import Augmentation, RandomCropPad, RandomFlip, ResizeShortestEdge
from dl_lib.utils import comm

__all__ = ["build_test_augmentations", "build_test_loader", "build_train_augmentations", "build_train_loader"]

Batch = list[dict[str, Any]]


def build_train_loader(cfg: CfgNode, *, start_iteration: int = 0) -> DataLoader[Batch]:
    """An endless loader of this process's share of the training batches.

    Args:
        cfg: DATASETS.TRAIN, DATALOADER, INPUT, SEED, SOLVER.IMS_PER_BATCH and the head's classes are read.
        start_iteration: the step to start from; the batches are those that a run from 0 has from there on.

    Returns:
        Gives lists of mapped samples, IMS_PER_BATCH / number of processes at a time.

    Raises:
        UnknownDatasetError: if a name in DATASETS.TRAIN is not registered.
        ValueError: if there is no data set, the batch cannot be shared out evenly, or SEED is still to be drawn.
    """
    world_size = comm.get_world_size()
    if not cfg.DATASETS.TRAIN:
        raise ValueError("training needs at least one data set. Received: DATASETS.TRAIN=[]")
    if cfg.SOLVER.IMS_PER_BATCH < 1 or cfg.SOLVER.IMS_PER_BATCH % world_size:
        raise ValueError(
            f"a batch must be shared out evenly among the {world_size} processes: choose a positive multiple. "
            f"Received: SOLVER.IMS_PER_BATCH={cfg.SOLVER.IMS_PER_BATCH}"
        )
    if cfg.SEED < 0:
        raise ValueError(f"the seed must be drawn before the loader is built. Received: SEED={cfg.SEED}")
    raw: RawDataset = ConcatDataset([DatasetCatalog.get(name) for name in cfg.DATASETS.TRAIN])  # type: ignore
    dataset = MappedDataset(raw, mapper=_build_mapper(cfg, training=True), seed=cfg.SEED)
    sampler = TrainingSampler(
        len(dataset),
        seed=cfg.SEED,
        rank=comm.get_rank(),
        world_size=world_size,
        start=start_iteration * cfg.SOLVER.IMS_PER_BATCH,
    )
    return DataLoader(
        dataset,
        batch_size=cfg.SOLVER.IMS_PER_BATCH // world_size,
        sampler=sampler,
        persistent_workers=cfg.DATALOADER.NUM_WORKERS > 0,
        **_loader_settings(cfg),
    )


def build_test_loader(cfg: CfgNode, dataset_name: str) -> DataLoader[Batch]:
    """A loader of this process's share of a data set: in order, one image at a time, its label as it is.

    Args:
        cfg: DATALOADER, INPUT and the head's classes are read.
        dataset_name: as registered in the catalog.

    Raises:
        UnknownDatasetError: if the name is not registered.
    """
    raw = DatasetCatalog.get(dataset_name)
    dataset = MappedDataset(raw, mapper=_build_mapper(cfg, training=False), seed=0)  # nothing is left to chance here
    sampler = InferenceSampler(len(dataset), rank=comm.get_rank(), world_size=comm.get_world_size())
    return DataLoader(dataset, batch_size=1, sampler=sampler, **_loader_settings(cfg))


def build_train_augmentations(cfg: CfgNode) -> list[Augmentation]:
    """Resize, flip, crop, as far as `INPUT` asks for them."""
    augmentations: list[Augmentation] = []
    if cfg.INPUT.MIN_SIZE_TRAIN:
        augmentations.append(ResizeShortestEdge(tuple(cfg.INPUT.MIN_SIZE_TRAIN), cfg.INPUT.MAX_SIZE_TRAIN))
    if cfg.INPUT.FLIP_PROB > 0:
        augmentations.append(RandomFlip(cfg.INPUT.FLIP_PROB))
    if cfg.INPUT.CROP_SIZE:
        augmentations.append(
            RandomCropPad(
                tuple(cfg.INPUT.CROP_SIZE),
                image_pad=cfg.INPUT.CROP_IMAGE_PAD_VALUE,
                label_pad=cfg.MODEL.SEM_SEG_HEAD.IGNORE_VALUE,
            )
        )
    return augmentations


def build_test_augmentations(cfg: CfgNode) -> list[Augmentation]:
    """Resize, if `INPUT` asks for it."""
    if not cfg.INPUT.MIN_SIZE_TEST:
        return []
    return [ResizeShortestEdge((cfg.INPUT.MIN_SIZE_TEST,), cfg.INPUT.MAX_SIZE_TEST)]


def _build_mapper(cfg: CfgNode, *, training: bool) -> DatasetMapper:
    return DatasetMapper(
        build_train_augmentations(cfg) if training else build_test_augmentations(cfg),
        channel_order=cfg.INPUT.FORMAT,
        num_classes=cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES,
        ignore_value=cfg.MODEL.SEM_SEG_HEAD.IGNORE_VALUE,
        transform_label=training,
    )


def _loader_settings(cfg: CfgNode) -> dict[str, Any]:
    if cfg.DATALOADER.NUM_WORKERS > 0:
        # Here and not only in the workers: where workers are forked (on Linux up to Python 3.13), one inherits
        # opencv's thread pool without its threads, and waits for them for ever when it uses the pool or changes its
        # size. With one thread there is no pool.
        cv2.setNumThreads(1)
    return {
        "num_workers": cfg.DATALOADER.NUM_WORKERS,
        "collate_fn": _as_list,
        "worker_init_fn": _set_up_worker,
        # The loader draws a number for its workers, which use none; it must not come out of the training's generator.
        "generator": torch.Generator(),
    }


def _as_list(samples: Batch) -> Batch:
    """Images differ in size, so a batch stays a list; the model pads it."""
    return samples


def _set_up_worker(worker: int) -> None:
    """Workers are the parallelism: threads inside them would only get in each other's way. Torch sees to its own.

    A terminal sends Ctrl-C to every process; when workers end is the main process's business.
    """
    cv2.setNumThreads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
