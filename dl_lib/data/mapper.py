"""From a raw sample to what the model takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, get_args

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from dl_lib.config.choices import ChannelOrder
from dl_lib.data.errors import InvalidSampleError, UnknownLabelError
from dl_lib.data.raw_dataset import RawDataset, RawSample
from dl_lib.data.samplers import SampleKey
from dl_lib.data.transforms import Augmentation, fuse, sample_transforms

__all__ = ["DatasetMapper", "MappedDataset"]


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
        channel_order: ChannelOrder,
        num_classes: int,
        ignore_value: int,
        transform_label: bool,
    ) -> None:
        if channel_order not in get_args(ChannelOrder):
            raise ValueError(
                f"the channel order (INPUT.FORMAT) must be one of {', '.join(get_args(ChannelOrder))}. "
                f"Received: channel_order={channel_order!r}"
            )
        self.augmentations = tuple(augmentations)
        self.channel_order = channel_order
        self.num_classes = num_classes
        self.ignore_value = ignore_value
        self.transform_label = transform_label
        fits_a_byte = num_classes <= 256 and 0 <= ignore_value < 256
        self._label_type = np.uint8 if fits_a_byte else np.int64

    def __call__(self, sample: RawSample, *, rng: np.random.Generator) -> dict[str, Any]:
        """The mapped sample.

        Args:
            sample: as the data set gives it; not changed.
            rng: where the augmentations draw from.

        Returns:
            image: (3, H, W) uint8 tensor, 0..255, in the channel order asked for, and in memory with the channels last
                as it was decoded; the model normalises it.
            sem_seg: (height, width) uint8 tensor where classes and ignore value fit into it, else int64; not there if
                the sample has no label.
            height, width: the label's size, which the output is wanted at; without a label that of the image as it
                was.
            image_id, file_name: as in the raw sample.

        Raises:
            InvalidSampleError: if image or label is no such array, if they differ in size or the label is missing
                where both are transformed, or if the label that is handed on holds a value that is neither a class
                nor the ignore value.
        """
        self._check_arrays(sample)
        image, label = sample["image"], sample.get("sem_seg")
        size = (image.shape[0], image.shape[1])
        moved_label = label if self.transform_label else None
        for transform in fuse(sample_transforms(self.augmentations, rng=rng, size=size, label=moved_label)):
            image = transform.apply_image(image)
            if moved_label is not None:
                label = moved_label = transform.apply_label(moved_label)
        mapped = {"image": self._image_tensor(image), "image_id": sample["image_id"], "file_name": sample["file_name"]}
        if label is not None:
            mapped["sem_seg"] = self._label_tensor(label, sample)
            size = (label.shape[0], label.shape[1])
        mapped["height"], mapped["width"] = size
        return mapped

    def _image_tensor(self, image: np.ndarray) -> Tensor:
        # Either way the pixels are copied once: what was cut from a larger image must not keep all of it alive, or
        # travel with it from one process to another.
        pixels = cv2.cvtColor(image, cv2.COLOR_RGB2BGR) if self.channel_order == "BGR" else np.array(image, order="C")
        return torch.from_numpy(pixels).permute(2, 0, 1)

    def _label_tensor(self, label: np.ndarray, sample: RawSample) -> Tensor:
        # The check comes before the conversion, in which values could turn into others.
        label = np.array(label, order="C")
        self._check_label_values(label, sample)
        return torch.from_numpy(label.astype(self._label_type, copy=False))

    def _check_arrays(self, sample: RawSample) -> None:
        image, label = sample["image"], sample.get("sem_seg")
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
            raise InvalidSampleError(
                f"image {_name(sample)} must be (H, W, 3) uint8. Received: shape={image.shape}, dtype={image.dtype}"
            )
        if label is None:
            if self.transform_label:
                raise InvalidSampleError(
                    f"image {_name(sample)} has no label, and there is nothing to learn from it: train on data sets "
                    f"with ground truth. Received: sample={sorted(sample)}"
                )
            return
        if label.ndim != 2 or not np.issubdtype(label.dtype, np.integer):
            raise InvalidSampleError(
                f"the label of image {_name(sample)} must be (H, W) integers. "
                f"Received: shape={label.shape}, dtype={label.dtype}"
            )
        if self.transform_label and label.shape != image.shape[:2]:
            raise InvalidSampleError(
                f"the label of image {_name(sample)} must have the image's {image.shape[0]} x {image.shape[1]} "
                f"pixels (height x width) where both are transformed together. Received: shape={label.shape}"
            )

    def _check_label_values(self, label: np.ndarray, sample: RawSample) -> None:
        is_wrong = (label < 0) | (label >= self.num_classes)
        is_wrong &= label != self.ignore_value
        if is_wrong.any():
            wrong = np.unique(label[is_wrong]).tolist()
            raise UnknownLabelError(
                f"the label of image {_name(sample)} holds values that are neither a class (0..{self.num_classes - 1}) "
                f"nor the ignore value ({self.ignore_value}). Mend the label, or set MODEL.SEM_SEG_HEAD.NUM_CLASSES "
                "and IGNORE_VALUE to what the data set has. "
                f"Received: values={wrong}, at {np.count_nonzero(is_wrong)} of {label.size} pixels"
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
        return self.map(key.index, rng=self.generator(key))

    def generator(self, key: SampleKey) -> np.random.Generator:
        """The sample's own random generator, newly made."""
        return np.random.default_rng([self.seed, key.epoch, key.index])

    def map(self, index: int, *, rng: np.random.Generator) -> dict[str, Any]:
        """The mapped sample of this index, with what is drawn from `rng`."""
        return self.mapper(self.dataset[index], rng=rng)


def _name(sample: RawSample) -> str:
    return f"{sample['image_id']!r} ({sample['file_name']})"
