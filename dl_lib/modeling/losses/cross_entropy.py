"""Pixel-wise cross-entropy with class weights, label smoothing and hard example mining.

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
    """Which pixels are hard enough to learn from: arXiv 1604.03540, for pixels in the place of regions.

    Decided image by image, so that it does not depend on how a batch is shared out to processes.

    Attributes:
        max_probability: a pixel is hard if its true class has at most this probability.
        min_ratio: of an image's labelled pixels, those with the lowest probabilities, that always count.
    """

    max_probability: float
    min_ratio: float

    def select(self, probability_BHW: Tensor, *, labelled_BHW: Tensor) -> Tensor:
        """(B, H, W) bool: the pixels to learn from, all of them labelled.

        Args:
            probability_BHW: of the true class; of no account where there is no label.
            labelled_BHW: where there is one.
        """
        hard = []
        for probability, labelled in zip(probability_BHW, labelled_BHW, strict=True):
            values = probability[labelled]
            limit = values.new_full((), self.max_probability)
            if kept := round(self.min_ratio * values.numel()):
                limit = torch.maximum(limit, values.kthvalue(kept).values)
            hard.append(labelled & (probability <= limit))
        return torch.stack(hard)


@dataclass(frozen=True)
class PixelCrossEntropy:
    """Cross-entropy, averaged over the labelled pixels of the batches of all processes together.

    Attributes:
        ignore_value: label of the pixels that are left out.
        class_weights: weight of each class, in the sum and in what it is divided by; empty for equal weights.
        label_smoothing: share of the target that is spread evenly over all classes (arXiv 1512.00567, section 7).
        hard_examples: learn from hard pixels only; None learns from all.
    """

    ignore_value: int
    class_weights: tuple[float, ...] = ()
    label_smoothing: float = 0.0
    hard_examples: HardExamples | None = None

    def __call__(self, logits_BCHW: Tensor, target_BHW: Tensor, *, mean_weight: Tensor | None = None) -> Tensor:
        """The loss, 0-d; 0 where nothing is labelled.

        Args:
            logits_BCHW: scores of the classes.
            target_BHW: class ids, int64.
            mean_weight: what the sum is divided by: the mean over processes (and over the parts of a step) of
                `weight_of` their labels, so that the mean of all their losses is that of the whole. None takes
                that of this call, over the processes; hard examples always do.
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
        counted_BHW = target_BHW != self.ignore_value
        class_BHW = target_BHW.where(counted_BHW, 0)
        if self.hard_examples is not None:
            with torch.no_grad():
                probability_BHW = logits_BCHW.softmax(dim=1).gather(1, class_BHW[:, None])[:, 0]
                counted_BHW = self.hard_examples.select(probability_BHW, labelled_BHW=counted_BHW)
            loss_BHW = loss_BHW * counted_BHW
            mean_weight = None
        if mean_weight is None:
            weight_BHW = counted_BHW.to(loss_BHW.dtype) if weight_C is None else weight_C[class_BHW] * counted_BHW
            mean_weight = comm.average(weight_BHW.sum())
        return loss_BHW.sum() / mean_weight.where(mean_weight > 0, 1)  # a batch may hold nothing to learn from

    def weight_of(self, target: Tensor, *, like: Tensor) -> Tensor:
        """Sum of the weights of labels of any shape, 0-d, in the type of `like` and where it is."""
        counted = target != self.ignore_value
        if not self.class_weights:
            return counted.sum().to(like)
        return self._weight_C(like)[target[counted].to(like.device, torch.int64)].sum()

    def _weight_C(self, like: Tensor) -> Tensor:
        return cached_tensor(self.class_weights, dtype=like.dtype, like=like)
