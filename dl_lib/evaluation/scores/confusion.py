"""Confusion matrix of semantic segmentation.

Rows are the ground truth, columns the prediction, as in scikit-learn; the published evaluator uses the transpose.
Ignored pixels are not counted.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

__all__ = ["ConfusionMatrix", "Pixels", "as_tensor", "count_confusion"]

Pixels = Tensor | np.ndarray

_MAX_LISTED = 10


def count_confusion(prediction: Pixels, *, label: Pixels, num_classes: int, ignore_value: int) -> Tensor:
    """Count the pixels of every pair of true and predicted class.

    Args:
        prediction: Class indices in [0, num_classes), integers of any shape, a tensor or array; determines the device.
        label: Integers of the same shape, each a class index or `ignore_value`; on any device.
        num_classes: Number of classes.
        ignore_value: Label of ignored pixels, whose prediction is irrelevant.

    Returns:
        int64 (num_classes, num_classes) on the device of `prediction`; [t, p] is the number of pixels of class t
        predicted as class p.

    Raises:
        ValueError: If the shapes differ, or a value is neither a class nor, for labels, the ignore value.
    """
    prediction, label = as_tensor(prediction), as_tensor(label)
    if prediction.shape != label.shape:
        raise ValueError(
            "prediction and label must have the same shape: scores are computed at the label's resolution, so the "
            "model's output must have that size. "
            f"Received: prediction={tuple(prediction.shape)}, label={tuple(label.shape)}"
        )
    _check_integers(prediction, name="prediction")
    _check_integers(label, name="label")
    # On the label's device: labels are usually on the CPU, where the check does not synchronize with a GPU.
    label = label.long()
    counted = label != ignore_value
    _check_classes(label[counted], name="label", num_classes=num_classes, ignore_value=ignore_value)
    counted = counted.to(prediction.device)
    predicted = prediction[counted].long()
    _check_classes(predicted, name="prediction", num_classes=num_classes, ignore_value=None)
    pair = label.to(prediction.device)[counted] * num_classes + predicted
    return torch.bincount(pair, minlength=num_classes**2).view(num_classes, num_classes)


class ConfusionMatrix:
    """Confusion matrix accumulated over images, on the device of the predictions.

    Args:
        num_classes: Number of classes.
        ignore_value: Label of ignored pixels.
    """

    def __init__(self, num_classes: int, *, ignore_value: int) -> None:
        if num_classes < 1:
            raise ValueError(f"num_classes must be at least 1. Received: num_classes={num_classes}")
        self.num_classes = num_classes
        self.ignore_value = ignore_value
        self.reset()

    def reset(self) -> None:
        self._counts = torch.zeros(self.num_classes, self.num_classes, dtype=torch.int64)

    @property
    def counts(self) -> Tensor:
        """Counts, int64 (num_classes, num_classes), [true, predicted], on the device of the last prediction."""
        return self._counts

    def update(self, prediction: Pixels, *, label: Pixels) -> Tensor:
        """Add one or several images, see `count_confusion`; an error leaves the counts unchanged.

        Returns:
            Counts of these images only.
        """
        new = count_confusion(prediction, label=label, num_classes=self.num_classes, ignore_value=self.ignore_value)
        # Not in place: tensors created in inference mode cannot be modified outside of it.
        self._counts = self._counts.to(new.device) + new
        return new


def as_tensor(values: Pixels) -> Tensor:
    """Return pixels as a tensor, a copy of an array."""
    if isinstance(values, Tensor):
        return values
    return torch.from_numpy(values.astype(values.dtype.newbyteorder("=")))  # a copy: arrays may be read-only


def _check_integers(values: Tensor, *, name: str) -> None:
    if values.is_floating_point() or values.is_complex() or values.dtype == torch.bool:
        raise ValueError(
            f"{name} must contain one integer class index per pixel (apply argmax over the classes to logits). "
            f"Received: {name}.dtype={values.dtype}"
        )


def _check_classes(values: Tensor, *, name: str, num_classes: int, ignore_value: int | None) -> None:
    if not values.numel():
        return
    lowest, highest = torch.stack(torch.aminmax(values)).tolist()  # one device transfer
    if lowest >= 0 and highest < num_classes:
        return
    invalid = torch.unique(values[(values < 0) | (values >= num_classes)]).tolist()
    listed = ", ".join(map(str, invalid[:_MAX_LISTED])) + (", ..." if len(invalid) > _MAX_LISTED else "")
    allowed = f"0 to {num_classes - 1}" + ("" if ignore_value is None else f" or the ignore value {ignore_value}")
    raise ValueError(
        f"{name} contains values that are not class indices. Expected {allowed}; fix the dataset's label mapping, its "
        "ignore value or the number of classes. "
        f"Received: {name} with values {listed}"
    )
