"""Dataset mapper: raw samples to model inputs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, get_args

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from dl_lib.config.choices import ChannelOrder
from dl_lib.config.errors import shown
from dl_lib.data.catalog import MAX_UINT8_CLASSES
from dl_lib.data.errors import InvalidSampleError, UnknownLabelError
from dl_lib.data.orientation import describe_swapped_sides
from dl_lib.data.raw_dataset import RawDataset, RawSample
from dl_lib.data.samplers import SampleKey
from dl_lib.data.transforms import Augmentation, fuse, sample_transforms
from dl_lib.utils.escaping import printable

__all__ = ["DatasetMapper", "MappedDataset"]


class DatasetMapper:
    """Callable that validates a raw sample, applies augmentations and converts it to a model input.

    Args:
        augmentations: Augmentations in the order of application.
        channel_order: Channel order of the model input, "BGR" or "RGB".
        num_classes: Number of classes; class ids are 0..num_classes - 1.
        ignore_value: Ignore index.
        transform_label: Whether to transform the label with the image (training). Otherwise the label keeps its size
            when the image is resized, and the model output is resized to the label (evaluation).

    Raises:
        ValueError: If the channel order is unknown.
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
                f"channel_order (INPUT.FORMAT) must be one of {', '.join(get_args(ChannelOrder))}. "
                f"Received: channel_order={channel_order!r}"
            )
        self.augmentations = tuple(augmentations)
        self.channel_order = channel_order
        self.num_classes = num_classes
        self.ignore_value = ignore_value
        self.transform_label = transform_label
        fits_a_byte = num_classes <= MAX_UINT8_CLASSES and 0 <= ignore_value < MAX_UINT8_CLASSES
        self._label_type = np.uint8 if fits_a_byte else np.int64

    def __call__(self, sample: RawSample, *, rng: np.random.Generator) -> dict[str, Any]:
        """Map a raw sample.

        Args:
            sample: Sample of the dataset; it is not modified.
            rng: Random generator of the augmentations.

        Returns:
            Dict with the keys

            - `image`: (3, H, W) uint8 tensor, 0..255, in `channel_order` and in channels-last memory format, as
              decoded; the model normalizes it.
            - `sem_seg`: (height, width) uint8 tensor if classes and ignore index fit into uint8, else int64; absent if
              the sample has no label.
            - `height`, `width`: Size of the label, to which the output is resized; if it is not transformed, the size
              of the raw image.
            - `image_id`, `file_name`: As in the raw sample.

        Raises:
            InvalidSampleError: If image or label has a wrong shape or dtype, the label differs in size from the image,
                or `transform_label` is set and the label is missing.
            UnknownLabelError: If the transformed label contains a value that is neither a class id nor the ignore
                index.
        """
        self._check_arrays(sample)
        image, label = sample["image"], sample.get("sem_seg")
        size = (image.shape[0], image.shape[1])
        transformed = label if self.transform_label else None
        for transform in fuse(sample_transforms(self.augmentations, rng=rng, size=size, label=transformed)):
            image = transform.apply_image(image)
            if transformed is not None:
                label = transformed = transform.apply_label(transformed)
        mapped = {"image": self._image_tensor(image), "image_id": sample["image_id"], "file_name": sample["file_name"]}
        if label is not None:
            mapped["sem_seg"] = self._label_tensor(label, sample)
            size = (label.shape[0], label.shape[1])
        mapped["height"], mapped["width"] = size
        return mapped

    def _image_tensor(self, image: np.ndarray) -> Tensor:
        # Both branches copy the pixels once: a view would keep the whole uncropped image alive and send it to the main
        # process.
        pixels = cv2.cvtColor(image, cv2.COLOR_RGB2BGR) if self.channel_order == "BGR" else np.array(image, order="C")
        return torch.from_numpy(pixels).permute(2, 0, 1)

    def _label_tensor(self, label: np.ndarray, sample: RawSample) -> Tensor:
        # Validate before the conversion to uint8, which wraps values around.
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
                    f"image {_name(sample)} has no label; train on datasets with ground truth. "
                    f"Received: sample={sorted(sample)}"
                )
            return
        if label.ndim != 2 or not np.issubdtype(label.dtype, np.integer):
            raise InvalidSampleError(
                f"the label of image {_name(sample)} must be an (H, W) integer array. "
                f"Received: shape={label.shape}, dtype={label.dtype}"
            )
        _check_sizes(sample, image=image.shape[:2], label=label.shape)

    def _check_label_values(self, label: np.ndarray, sample: RawSample) -> None:
        is_unknown = (label < 0) | (label >= self.num_classes)
        is_unknown &= label != self.ignore_value
        if is_unknown.any():
            values = np.unique(label[is_unknown]).tolist()
            raise UnknownLabelError(
                f"the label of image {_name(sample)} contains values that are neither a class id "
                f"(0..{self.num_classes - 1}) nor the ignore index ({self.ignore_value}). Fix the label, map its ids "
                "(LABEL_MAP or REDUCE_ZERO of DATASETS.FOLDERS), or set MODEL.SEM_SEG_HEAD.NUM_CLASSES and "
                "MODEL.SEM_SEG_HEAD.IGNORE_VALUE to those of the dataset. "
                f"Received: values={shown(values)} in {np.count_nonzero(is_unknown)} of {label.size} pixels"
            )


class MappedDataset(Dataset):
    """Map-style dataset of mapped samples, indexed by `SampleKey` (epoch and index).

    Each sample has a random generator seeded with (seed, epoch, index), so that the result depends neither on the
    worker nor on the samples loaded before.
    """

    def __init__(self, dataset: RawDataset, *, mapper: DatasetMapper, seed: int) -> None:
        self.dataset = dataset
        self.mapper = mapper
        self.seed = seed

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, key: SampleKey) -> dict[str, Any]:
        return self.mapper(self.dataset[key.index], rng=self.generator(key))

    def generator(self, key: SampleKey) -> np.random.Generator:
        return np.random.default_rng([self.seed, key.epoch, key.index])


def _check_sizes(sample: RawSample, *, image: tuple[int, ...], label: tuple[int, ...]) -> None:
    if label == image:
        return
    fix = (
        describe_swapped_sides(label, image) or "; resize the label without interpolation, or fix the pairing of files"
    )
    raise InvalidSampleError(
        f"the label of image {_name(sample)} must have the size of the image, {image[0]} x {image[1]} "
        f"(height x width){fix}. Received: shape={label}"
    )


def _name(sample: RawSample) -> str:
    return f"{sample['image_id']!r} ({printable(sample['file_name'])})"
