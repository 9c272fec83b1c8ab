"""Ways from files to samples, side by side: the plain one with Pillow, and the library's own."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from PIL import Image
from torch.utils.data import Dataset

from dl_lib.benchmark.data_pictures import NUM_CLASSES, PicturePair
from dl_lib.config import CfgNode, get_cfg
from dl_lib.data.build import build_train_augmentations, build_train_loader
from dl_lib.data.catalog import DatasetCatalog
from dl_lib.data.datasets.folder import FolderSource
from dl_lib.data.reading import read_image
from dl_lib.data.samplers import SampleKey
from dl_lib.data.transforms import Augmentation, CropPad, HorizontalFlip, Resize, sample_transforms

__all__ = ["LEAN", "PLAIN", "SCALES", "LeanSamples", "PlainSamples", "decoders", "loading_paths", "round_keys"]

PLAIN, LEAN = "Pillow, plain", "Pillow, lean"
SCALES = (0.5, 0.75, 1.0, 1.25, 1.5, 2.0)  # of the published recipe, as shares of the image's height
_CROP = 0.75  # likewise
_EPOCHS_OF_A_ROUND = 1000  # more than have to be tried


class PlainSamples(Dataset):
    """With Pillow and numpy, as frameworks of Detectron2's kind do it, the published code among them.

    Decode into an array in BGR order; resize all of image and label, flip all of them, crop, each from array to array;
    normalise on the CPU. The transforms are those that the library draws for the same key, so that both make the same
    sample.

    Args:
        pairs: of files.
        size: (height, width) of the images in pixels.
        augmentations: a resize, a flip and a crop.
        pixel_mean: in BGR order.
        seed: of the draws.
    """

    def __init__(
        self,
        pairs: Sequence[PicturePair],
        *,
        size: tuple[int, int],
        augmentations: Sequence[Augmentation],
        pixel_mean: Sequence[float],
        seed: int,
    ) -> None:
        self.pairs = pairs
        self.size = size
        self.augmentations = augmentations
        self.pixel_mean = np.array(pixel_mean, np.float32)
        self.seed = seed

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, key: SampleKey) -> dict[str, Any]:
        image, label = self._augmented(self.pairs[key.index], *self.draw(key))
        pixels = image.astype(np.float32) - self.pixel_mean
        return {
            "image": torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1))),
            "sem_seg": torch.from_numpy(label.astype(np.int64)),
        }

    def draw(self, key: SampleKey) -> tuple[Resize, HorizontalFlip, CropPad]:
        """What is done to a sample."""
        rng = np.random.default_rng([self.seed, key.epoch, key.index])
        resize, flip, crop = sample_transforms(self.augmentations, rng=rng, size=self.size)
        assert isinstance(resize, Resize) and isinstance(flip, HorizontalFlip) and isinstance(crop, CropPad)
        return resize, flip, crop

    def _augmented(
        self, pair: PicturePair, resize: Resize, flip: HorizontalFlip, crop: CropPad
    ) -> tuple[np.ndarray, np.ndarray]:
        """Image in BGR order, and label."""
        image = np.asarray(Image.open(pair.image).convert("RGB"))[..., ::-1]
        label = np.asarray(Image.open(pair.label))
        size = (resize.width, resize.height)
        image = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR))
        label = np.asarray(Image.fromarray(label).resize(size, Image.Resampling.NEAREST))
        if flip.flipped:
            image, label = image[:, ::-1], label[:, ::-1]
        return crop.apply_image(image), crop.apply_label(label)


class LeanSamples(PlainSamples):
    """The same, with Pillow's images up to the crop, as torchvision's transforms do it; only that becomes an array."""

    def _augmented(
        self, pair: PicturePair, resize: Resize, flip: HorizontalFlip, crop: CropPad
    ) -> tuple[np.ndarray, np.ndarray]:
        image: Image.Image = Image.open(pair.image).convert("RGB")
        label: Image.Image = Image.open(pair.label)
        size = (resize.width, resize.height)
        image, label = image.resize(size, Image.Resampling.BILINEAR), label.resize(size, Image.Resampling.NEAREST)
        if flip.flipped:
            image, label = (one.transpose(Image.Transpose.FLIP_LEFT_RIGHT) for one in (image, label))
        box = (crop.columns.start, crop.rows.start, crop.columns.stop, crop.rows.stop)
        window = np.asarray(image.crop(box))[..., ::-1]
        return crop.pad_image(window), crop.pad_label(np.asarray(label.crop(box)))


def round_keys(plain: PlainSamples, round_number: int) -> list[SampleKey]:
    """A key for each picture, others in each round, among which every scale is drawn as often as the others."""
    keys = []
    for index in range(len(plain)):
        height = round(SCALES[(index + round_number) % len(SCALES)] * plain.size[0])
        candidates = (SampleKey(epoch, index) for epoch in itertools.count(round_number * _EPOCHS_OF_A_ROUND))
        keys.append(next(key for key in candidates if plain.draw(key)[0].height == height))
    return keys


def loading_paths(
    pairs: Sequence[PicturePair], *, size: tuple[int, int], folder: Path
) -> tuple[PlainSamples, Mapping[str, Dataset]]:
    """The plain way, and all ways by the names that the report uses; each gives a training sample for a SampleKey.

    Args:
        pairs: of files, in the folders `images` and `labels` below `folder`.
        size: (height, width) of the images in pixels, which scales and crop are shares of.
        folder: also of the cache, which is made.
    """
    cfg = _config(size, folder)
    plain, lean = (
        kind(
            pairs,
            size=size,
            augmentations=build_train_augmentations(cfg),
            pixel_mean=cfg.MODEL.PIXEL_MEAN,
            seed=cfg.SEED,
        )
        for kind in (PlainSamples, LeanSamples)
    )
    settings = {
        "dl_lib, cv2": ["INPUT.BACKEND", "cv2"],
        "dl_lib, pil": ["INPUT.BACKEND", "pil"],
        "dl_lib, cv2, memmap": ["DATALOADER.CACHE", "memmap", "DATALOADER.CACHE_DIR", str(folder / "cache")],
    }
    own = {name: _own_samples(cfg, opts) for name, opts in settings.items()}
    return plain, {PLAIN: plain, LEAN: lean, **own}


def decoders() -> Mapping[str, Callable[[Path], object]]:
    """Ways to decode an image alone, by name."""
    return {
        "Pillow": lambda path: np.asarray(Image.open(path)),
        "opencv": lambda path: cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_COLOR_RGB),
        "dl_lib": read_image,
    }


def _config(size: tuple[int, int], folder: Path) -> CfgNode:
    """The published recipe for images of this size, and the pictures as its training set."""
    source = FolderSource(
        images=str((folder / "images").absolute()),
        labels=str((folder / "labels").absolute()),
        classes=tuple(f"class {number}" for number in range(NUM_CLASSES)),
    )
    name = f"benchmark in {folder.absolute()}"
    DatasetCatalog.register(name, source, source.meta)
    cfg = get_cfg()
    cfg.DATASETS.TRAIN = [name]
    cfg.DATALOADER.NUM_WORKERS = 0
    cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES = NUM_CLASSES
    cfg.INPUT.MIN_SIZE_TRAIN = [round(scale * size[0]) for scale in SCALES]
    cfg.INPUT.MAX_SIZE_TRAIN = 2 * max(size)
    cfg.INPUT.CROP_SIZE = [round(_CROP * size[0])] * 2
    return cfg


def _own_samples(cfg: CfgNode, opts: Sequence[str]) -> Dataset:
    cfg = cfg.clone()
    cfg.merge_from_list(list(opts))
    return build_train_loader(cfg).loader.dataset
