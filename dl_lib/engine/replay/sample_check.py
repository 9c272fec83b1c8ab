"""Check of the images and labels of a saved step, because its file may have been edited or damaged."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from dl_lib.checkpoint import CheckpointError
from dl_lib.config import CfgNode
from dl_lib.engine.training.saved_step import SavedStep
from dl_lib.modeling.meta_arch.batching import check_label_sizes, check_pixel_range

__all__ = ["check_samples"]

_IMAGE_DTYPES = (torch.uint8, torch.float32)
_LABEL_DTYPES = (torch.uint8, torch.int64)  # those of `DatasetMapper`


def check_samples(step: SavedStep, *, cfg: CfgNode) -> None:
    """Check that all samples of a step are inputs that a `SegmentationModel` trains on.

    Raises:
        CheckpointError: If an image or a label is missing or has another type or shape, or a label has values that are
            neither a class id nor the ignore value, which would be indices out of range on a GPU.
    """
    head = cfg.MODEL.SEM_SEG_HEAD
    try:
        for sample in (sample for batch in step.batches for sample in batch):
            image, label = _tensor(sample, "image", _IMAGE_DTYPES), _tensor(sample, "sem_seg", _LABEL_DTYPES)
            if image.ndim != 3 or len(image) != 3 or not image.numel():
                raise ValueError(f"image must have the shape (3, H, W). Received: image.shape={tuple(image.shape)}")
            check_label_sizes([sample])
            check_pixel_range([image])
            _check_values(label, num_classes=head.NUM_CLASSES, ignore_value=head.IGNORE_VALUE)
    except ValueError as error:
        raise CheckpointError(f"the saved batch does not fit the config: {error}") from None


def _tensor(sample: Mapping[str, Any], name: str, dtypes: tuple[torch.dtype, ...]) -> Tensor:
    value = sample.get(name)
    if isinstance(value, Tensor) and value.dtype in dtypes:
        return value
    expected = " or ".join(str(dtype).removeprefix("torch.") for dtype in dtypes)
    received = value.dtype if isinstance(value, Tensor) else type(value).__name__
    raise ValueError(f"{name} must be a {expected} tensor. Received: {name} of type {received}")


def _check_values(label: Tensor, *, num_classes: int, ignore_value: int) -> None:
    known = label[label != ignore_value]
    if known.numel() and not 0 <= known.min() <= known.max() < num_classes:
        raise ValueError(
            f"labels must be class ids from 0 to {num_classes - 1} or the ignore value {ignore_value}. "
            f"Received: labels from {known.min().item()} to {known.max().item()}"
        )
