"""Region overlap losses: dice (arXiv 1606.04797) and Lovász-softmax (arXiv 1705.08790).

Both average over the images, and per image over the classes in its labels. The mean over processes with equal numbers
of images is therefore the loss of the whole batch.

Shape suffixes: B images, C classes, P pixels.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["dice_loss", "lovasz_softmax_loss"]


def dice_loss(logits_BCHW: Tensor, target_BHW: Tensor, *, ignore_value: int) -> Tensor:
    """Return the dice loss 1 - 2 Σ p g / (Σ p + Σ g) of probabilities p and labels g (0-d).

    Variant of arXiv 1606.04797, section 3.
    """
    losses = [
        1 - 2 * (p_PC * g_PC).sum(dim=0) / (p_PC.sum(dim=0) + g_PC.sum(dim=0))
        for p_PC, g_PC in _present_classes(logits_BCHW, target_BHW, ignore_value=ignore_value)
    ]
    return _mean(losses, like=logits_BCHW)


def lovasz_softmax_loss(logits_BCHW: Tensor, target_BHW: Tensor, *, ignore_value: int) -> Tensor:
    """Return the Lovász-softmax loss (0-d): the convex extension of 1 - IoU, evaluated at the errors |g - p|.

    Source: arXiv 1705.08790, equations 8 to 10.
    """
    losses = []
    for p_PC, g_PC in _present_classes(logits_BCHW, target_BHW, ignore_value=ignore_value):
        errors_PC, order_PC = (g_PC - p_PC).abs().sort(dim=0, descending=True)
        losses.append((errors_PC * _lovasz_gradient(g_PC.gather(0, order_PC))).sum(dim=0))
    return _mean(losses, like=logits_BCHW)


def _lovasz_gradient(truth_PC: Tensor) -> Tensor:
    """Return the increase of 1 - IoU with each misclassified pixel, for pixels sorted by decreasing error."""
    true_C = truth_PC.sum(dim=0)
    intersection_PC = true_C - truth_PC.cumsum(dim=0)
    union_PC = true_C + (1 - truth_PC).cumsum(dim=0)
    loss_PC = 1 - intersection_PC / union_PC
    return torch.cat([loss_PC[:1], loss_PC.diff(dim=0)])


def _present_classes(logits_BCHW: Tensor, target_BHW: Tensor, *, ignore_value: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield probabilities and one-hot truth (P, C) of each labelled image, for its labelled pixels and its classes."""
    for logits, target in zip(logits_BCHW, target_BHW, strict=True):
        labelled = target != ignore_value
        classes = target[labelled]
        if not classes.numel():
            continue
        probability_PC = logits[:, labelled].softmax(dim=0).T
        truth_PC = F.one_hot(classes, num_classes=len(logits))
        present = truth_PC.any(dim=0)
        yield probability_PC[:, present], truth_PC[:, present].to(probability_PC.dtype)


def _mean(losses: list[Tensor], *, like: Tensor) -> Tensor:
    """Return the mean over images of their mean class loss; images without labels count as 0."""
    return sum((loss_C.mean() for loss_C in losses), like.sum() * 0) / len(like)
