"""Pixel-wise cross-entropy with class weights, label smoothing and online hard example mining (OHEM).

Shape suffixes: B images, C classes, H rows, W columns.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from dl_lib.utils import comm
from dl_lib.utils.cached_tensors import cached_tensor

__all__ = ["HardExamples", "PixelCrossEntropy"]


@dataclass(frozen=True)
class HardExamples:
    """Online hard example mining (arXiv 1604.03540), applied to pixels instead of regions.

    Pixels are selected image by image, so that the selection does not depend on how a batch is split over processes.

    Attributes:
        max_probability: A pixel is hard if the probability of its true class is at most this.
        min_ratio: Minimum fraction of an image's labelled pixels to select, lowest probabilities first.
    """

    max_probability: float
    min_ratio: float

    def select(self, probability_BHW: Tensor, *, labelled_BHW: Tensor) -> Tensor:
        """Return the mask (B, H, W) of hard pixels, all of them labelled.

        `probability_BHW` is that of the true class; it is ignored at pixels without a label.
        """
        hard = []
        for probability, labelled in zip(probability_BHW, labelled_BHW, strict=True):
            values = probability[labelled]
            threshold = values.new_full((), self.max_probability)
            if min_pixels := round(self.min_ratio * values.numel()):
                threshold = torch.maximum(threshold, values.kthvalue(min_pixels).values)
            hard.append(labelled & (probability <= threshold))
        return torch.stack(hard)


@dataclass(frozen=True)
class PixelCrossEntropy:
    """Cross-entropy, averaged over the labelled pixels of the batches of all processes.

    Attributes:
        ignore_value: Label of ignored pixels.
        class_weights: Weight of each class in the sum and its normalizer; empty for equal weights.
        label_smoothing: Fraction of the target distributed evenly over all classes (arXiv 1512.00567, section 7).
        hard_examples: Selection of hard pixels; None uses all pixels.
    """

    ignore_value: int
    class_weights: tuple[float, ...] = ()
    label_smoothing: float = 0.0
    hard_examples: HardExamples | None = None

    def __call__(self, logits_BCHW: Tensor, target_BHW: Tensor, *, mean_weight: Tensor | None = None) -> Tensor:
        """Return the loss (0-d); 0 if no pixel is labelled.

        Args:
            logits_BCHW: Logits.
            target_BHW: Class ids, int64.
            mean_weight: Normalizer of the sum: the mean of `weight_of` over processes and accumulated batches, so that
                the losses of all batches average to that of the whole step. None computes it over the processes for
                this batch; hard example mining always does.
        """
        weight_C = self._weight_C(logits_BCHW) if self.class_weights else None
        loss_BHW = F.cross_entropy(
            logits_BCHW,
            target_BHW,
            weight=weight_C,
            ignore_index=self.ignore_value,
            label_smoothing=self.label_smoothing,
            reduction="none",
        )
        selected_BHW = target_BHW != self.ignore_value
        class_BHW = target_BHW.where(selected_BHW, 0)
        if self.hard_examples is not None:
            with torch.no_grad():
                probability_BHW = logits_BCHW.softmax(dim=1).gather(1, class_BHW[:, None])[:, 0]
                selected_BHW = self.hard_examples.select(probability_BHW, labelled_BHW=selected_BHW)
            loss_BHW = loss_BHW * selected_BHW
            mean_weight = None
        if mean_weight is None:
            weight_BHW = selected_BHW.to(loss_BHW.dtype) if weight_C is None else weight_C[class_BHW] * selected_BHW
            mean_weight = comm.average(weight_BHW.sum())
        return loss_BHW.sum() / mean_weight.where(mean_weight > 0, 1)  # a batch may have no labelled pixel

    def weight_of(self, target: Tensor, *, like: Tensor) -> Tensor:
        """Return the summed weight (0-d) of labels of any shape, with the dtype and device of `like`."""
        labelled = target != self.ignore_value
        if not self.class_weights:
            return labelled.sum().to(like)
        return self._weight_C(like)[target[labelled].to(like.device, torch.int64)].sum()

    def _weight_C(self, like: Tensor) -> Tensor:
        return cached_tensor(self.class_weights, dtype=like.dtype, like=like)
