"""Counting which class was taken for which.

Rows are the ground truth, columns the prediction (as in scikit-learn; the published evaluator had them the other way
round). Pixels whose label is the ignore value are in no cell.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["ConfusionMatrix", "count_confusion"]

_LISTED_VALUES = 10


def count_confusion(prediction: Tensor, *, label: Tensor, num_classes: int, ignore_value: int) -> Tensor:
    """Counts the pixels of every (true class, predicted class) pair.

    Args:
        prediction: integers in [0, num_classes), any shape; its device does the counting.
        label: integers of the same shape, each a class or `ignore_value`; on any device.
        num_classes: how many classes there are.
        ignore_value: label of the pixels that are left out, whatever is predicted there.

    Returns:
        int64 (num_classes, num_classes) on the device of `prediction`; [t, p] counts the pixels of class t
        that were taken for class p.

    Raises:
        ValueError: if the shapes differ, or a value is no class (and, for labels, not the ignore value either).
    """
    if prediction.shape != label.shape:
        raise ValueError(
            "prediction and label have to be of one shape: the label is evaluated at its own resolution, so the "
            "model has to be asked for an output of that size. "
            f"Received: prediction={tuple(prediction.shape)}, label={tuple(label.shape)}"
        )
    _check_integers(prediction, name="prediction")
    _check_integers(label, name="label")
    # Where the label is: it mostly still lies on the CPU, so that looking at its values does not stall a GPU.
    label = label.long()
    counted = label != ignore_value
    _check_classes(label[counted], name="label", num_classes=num_classes, ignore_value=ignore_value)
    counted = counted.to(prediction.device)
    predicted = prediction[counted].long()
    _check_classes(predicted, name="prediction", num_classes=num_classes, ignore_value=None)
    pair = label.to(prediction.device)[counted] * num_classes + predicted
    return torch.bincount(pair, minlength=num_classes**2).view(num_classes, num_classes)


class ConfusionMatrix:
    """The counts of `count_confusion`, summed over images where these are.

    Args:
        num_classes: how many classes there are.
        ignore_value: label of the pixels that are left out.
    """

    def __init__(self, num_classes: int, *, ignore_value: int) -> None:
        if num_classes < 1:
            raise ValueError(f"a confusion matrix needs at least one class. Received: num_classes={num_classes}")
        self.num_classes = num_classes
        self.ignore_value = ignore_value
        self.reset()

    def reset(self) -> None:
        self._counts = torch.zeros(self.num_classes, self.num_classes, dtype=torch.int64)

    @property
    def counts(self) -> Tensor:
        """int64 (num_classes, num_classes), [true, predicted], on the device of the last prediction."""
        return self._counts

    def update(self, prediction: Tensor, *, label: Tensor) -> Tensor:
        """Adds one image (or several: any shape), see `count_confusion`; an error leaves the counts as they were.

        Returns:
            The counts of this image alone.
        """
        new = count_confusion(prediction, label=label, num_classes=self.num_classes, ignore_value=self.ignore_value)
        # Not in place: a tensor made under inference_mode may not be changed outside of it.
        self._counts = self._counts.to(new.device) + new
        return new


def _check_integers(values: Tensor, *, name: str) -> None:
    if values.is_floating_point() or values.is_complex() or values.dtype == torch.bool:
        raise ValueError(
            f"{name} has to hold one class index per pixel, as integers (scores need .argmax over the classes). "
            f"Received: {name}.dtype={values.dtype}"
        )


def _check_classes(values: Tensor, *, name: str, num_classes: int, ignore_value: int | None) -> None:
    if not values.numel():
        return
    lowest, highest = torch.stack(torch.aminmax(values)).tolist()  # one transfer
    if lowest >= 0 and highest < num_classes:
        return
    wrong = torch.unique(values[(values < 0) | (values >= num_classes)]).tolist()
    listed = ", ".join(map(str, wrong[:_LISTED_VALUES])) + (", ..." if len(wrong) > _LISTED_VALUES else "")
    allowed = f"0 to {num_classes - 1}" + ("" if ignore_value is None else f" or the ignore value {ignore_value}")
    raise ValueError(
        f"{name} holds values that are no class: they are neither counted nor moved into one. Expected {allowed}; "
        "mend the data set's label mapping, its ignore value or the number of classes. "
        f"Received: {name} with values {listed}"
    )
