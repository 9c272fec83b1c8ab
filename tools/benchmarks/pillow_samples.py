"""Training samples of the published recipe made with Pillow and NumPy, in three ways."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from synthetic_images import Pair
from torch.utils.data import Dataset

from dl_lib.config import CfgNode
from dl_lib.data.build import build_train_augmentations
from dl_lib.data.samplers import SampleKey
from dl_lib.data.transforms import CropPad, HorizontalFlip, Resize, sample_transforms

Size = tuple[int, int]


class PlainSamples(Dataset):
    """Samples made with Pillow and NumPy as in detectron2, with the same random transforms as the library's samples."""

    def __init__(self, cfg: CfgNode, pairs: Sequence[Pair], *, size: Size) -> None:
        self.pairs = pairs
        self.size = size
        self.augmentations = build_train_augmentations(cfg)
        self.pixel_mean = np.array(cfg.MODEL.PIXEL_MEAN, np.float32)
        self.seed = cfg.SEED

    def __getitem__(self, key: SampleKey) -> dict[str, Any]:
        return self.tensors(*self.augmented(*self.pairs[key.index], *self.draw(key)))

    def tensors(self, image: np.ndarray, label: np.ndarray) -> dict[str, Any]:
        pixels = image.astype(np.float32) - self.pixel_mean
        return {
            "image": torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1))),
            "sem_seg": torch.from_numpy(label.astype(np.int64)),
        }

    def draw(self, key: SampleKey) -> Sequence[Any]:
        """Return the resize, flip and crop of a sample."""
        rng = np.random.default_rng([self.seed, key.epoch, key.index])
        return sample_transforms(self.augmentations, rng=rng, size=self.size)

    def augmented(
        self, image_path: Path, label_path: Path, resize: Resize, flip: HorizontalFlip, crop: CropPad
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the image in BGR order, and the label."""
        image = np.asarray(Image.open(image_path).convert("RGB"))[..., ::-1]
        size = (resize.width, resize.height)
        image = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR))
        label = np.asarray(Image.open(label_path).resize(size, Image.Resampling.NEAREST))
        if flip.flipped:
            image, label = image[:, ::-1], label[:, ::-1]
        return crop.apply_image(image), crop.apply_label(label)


class LeanSamples(PlainSamples):
    """Variant of `PlainSamples` that keeps Pillow images up to the crop, as torchvision's transforms do."""

    def augmented(
        self, image_path: Path, label_path: Path, resize: Resize, flip: HorizontalFlip, crop: CropPad
    ) -> tuple[np.ndarray, np.ndarray]:
        size, box = (
            (resize.width, resize.height),
            (crop.columns.start, crop.rows.start, crop.columns.stop, crop.rows.stop),
        )
        image = Image.open(image_path).convert("RGB").resize(size, Image.Resampling.BILINEAR)
        label = Image.open(label_path).resize(size, Image.Resampling.NEAREST)
        if flip.flipped:
            image, label = (one.transpose(Image.Transpose.FLIP_LEFT_RIGHT) for one in (image, label))
        return crop.pad_image(np.asarray(image.crop(box))[..., ::-1]), crop.pad_label(np.asarray(label.crop(box)))


class CropOnlySamples(PlainSamples):
    """Variant of `PlainSamples` that resizes only the pixels of the crop, and returns uint8 like the library.

    Pixels deviate from those of the resized image by up to 2, because Pillow chooses the order of the two passes from
    the size of the result and rounds in between.
    """

    def tensors(self, image: np.ndarray, label: np.ndarray) -> dict[str, Any]:
        pixels = torch.from_numpy(np.ascontiguousarray(image))
        return {"image": pixels.permute(2, 0, 1), "sem_seg": torch.from_numpy(np.array(label))}

    def augmented(
        self, image_path: Path, label_path: Path, resize: Resize, flip: HorizontalFlip, crop: CropPad
    ) -> tuple[np.ndarray, np.ndarray]:
        left, right = crop.columns.start, crop.columns.stop
        if flip.flipped:
            left, right = resize.width - right, resize.width - left
        vertical, horizontal = self.size[0] / resize.height, self.size[1] / resize.width
        box = (left * horizontal, crop.rows.start * vertical, right * horizontal, crop.rows.stop * vertical)
        size = (crop.window[1], crop.window[0])
        image = Image.open(image_path).convert("RGB").resize(size, Image.Resampling.BILINEAR, box=box)
        label = Image.open(label_path).resize(size, Image.Resampling.NEAREST, box=box)
        if flip.flipped:
            image, label = (one.transpose(Image.Transpose.FLIP_LEFT_RIGHT) for one in (image, label))
        return crop.pad_image(np.asarray(image)[..., ::-1]), crop.pad_label(np.asarray(label))
