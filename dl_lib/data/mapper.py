"""From a raw sample to what the model takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from dl_lib.data.catalog import RawDataset, RawSample
from dl_lib.data.errors import InvalidSampleError
from dl_lib.data.samplers import SampleKey
from dl_lib.data.transforms import Augmentation, draw_geometries

__all__ = ["DatasetMapper", "MappedDataset"]

CHANNEL_ORDERS = ("BGR", "RGB")


class DatasetMapper:
    """Check a raw sample, transform it, and bring it into the model's form.

    Args:
        augmentations: applied in their order.
        channel_order: "BGR" or "RGB", of the image that comes out.
        num_classes: labels 0..num_classes - 1 are classes.
        ignore_value: the one other label that is allowed.
        transform_label: whether the label follows the image's geometry (training), or stays at its own resolution,
            which is then also the size that the output is wanted at (testing).

    Raises:
        ValueError: if the channel order is unknown.
    """

    def __init__(
        self,
        augmentations: Sequence[Augmentation],
        *,
        channel_order: str,
        num_classes: int,
        ignore_value: int,
        transform_label: bool,
    ) -> None:
        if channel_order not in CHANNEL_ORDERS:
            raise ValueError(
                f"the channel order (INPUT.FORMAT) must be one of {', '.join(CHANNEL_ORDERS)}. "
                f"Received: channel_order={channel_order!r}"
            )
        self.augmentations = tuple(augmentations)
        self.channel_order = channel_order
        self.num_classes = num_classes
        self.ignore_value = ignore_value
        self.transform_label = transform_label

    def __call__(self, sample: RawSample, *, rng: np.random.Generator) -> dict[str, Any]:
        """The mapped sample.

        Args:
            sample: as the data set gives it; not changed.
            rng: where the augmentations draw from.

        Returns:
            image: (3, H, W) uint8 tensor, 0..255, in the channel order asked for; the model normalises it.
            sem_seg: (height, width) int64 tensor.
            height, width: the label's size, which the output is wanted at.
            image_id, file_name: as in the raw sample.

        Raises:
            InvalidSampleError: if image or label is no such array, if they differ in size where both are transformed,
                or if the label holds a value that is neither a class nor the ignore value.
        """
        image, label = sample["image"], sample["sem_seg"]
        self._check_arrays(sample)
        self._check_label_values(sample)
        for geometry in draw_geometries(self.augmentations, rng=rng, size=(image.shape[0], image.shape[1])):
            image = geometry.apply_image(image)
            if self.transform_label:
                label = geometry.apply_label(label)
        if self.channel_order == "BGR":
            image = image[..., ::-1]
        return {
            "image": torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1))),
            "sem_seg": torch.from_numpy(label.astype(np.int64)),
            "height": label.shape[0],
            "width": label.shape[1],
            "image_id": sample["image_id"],
            "file_name": sample["file_name"],
        }

    def _check_arrays(self, sample: RawSample) -> None:
        image, label = sample["image"], sample["sem_seg"]
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
            raise InvalidSampleError(
                f"image {sample['image_id']!r} must be (H, W, 3) uint8. "
                f"Received: shape={image.shape}, dtype={image.dtype}"
            )
        if label.ndim != 2 or not np.issubdtype(label.dtype, np.integer):
            raise InvalidSampleError(
                f"the label of image {sample['image_id']!r} must be (H, W) integers. "
                f"Received: shape={label.shape}, dtype={label.dtype}"
            )
        if self.transform_label and label.shape != image.shape[:2]:
            raise InvalidSampleError(
                f"the label of image {sample['image_id']!r} must have the image's {image.shape[0]} x {image.shape[1]} "
                f"pixels (height x width) where both are transformed together. Received: shape={label.shape}"
            )

    def _check_label_values(self, sample: RawSample) -> None:
        label = sample["sem_seg"]
        if label.dtype == np.uint8:  # a look-up is much faster than three comparisons, and this is the common case
            allowed = np.zeros(256, bool)
            allowed[: self.num_classes] = True
            if 0 <= self.ignore_value < 256:
                allowed[self.ignore_value] = True
            is_allowed = allowed[label]
        else:
            is_allowed = ((label >= 0) & (label < self.num_classes)) | (label == self.ignore_value)
        if not is_allowed.all():
            wrong = np.unique(label[~is_allowed]).tolist()
            raise InvalidSampleError(
                f"the label of image {sample['image_id']!r} ({sample['file_name']}) holds values that are neither a "
                f"class (0..{self.num_classes - 1}) nor the ignore value ({self.ignore_value}). Mend the label, or set "
                "MODEL.SEM_SEG_HEAD.NUM_CLASSES and IGNORE_VALUE to what the data set has. "
                f"Received: values={wrong}, at {np.count_nonzero(~is_allowed)} of {label.size} pixels"
            )


class MappedDataset(Dataset):
    """Raw samples through a mapper, each with its own random generator from (seed, epoch, index).

    So a sample depends neither on the process that makes it nor on what was made before.
    """

    def __init__(self, dataset: RawDataset, *, mapper: DatasetMapper, seed: int) -> None:
        self.dataset = dataset
        self.mapper = mapper
        self.seed = seed

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, key: SampleKey) -> dict[str, Any]:
        rng = np.random.default_rng([self.seed, key.epoch, key.index])
        return self.mapper(self.dataset[key.index], rng=rng)
