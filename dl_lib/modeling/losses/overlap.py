"""Losses on the overlap of whole regions: dice and Lovász-softmax, image by image.

Both are means over the images, and in each over the classes that its labels hold: so the mean over processes with
equally many images is that of the whole batch. Shape suffixes: B images, C classes, P pixels.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["dice_loss", "lovasz_softmax_loss"]


def dice_loss(logits_BCHW: Tensor, target_BHW: Tensor, *, ignore_value: int) -> Tensor:
    """1 - 2 Σ p g / (Σ p + Σ g) with probabilities p and labels g: after arXiv 1606.04797, section 3; 0-d.

    Args:
        logits_BCHW: scores of the classes.
        target_BHW: class ids.
        ignore_value: label of the pixels that are left out.
    """
    losses = [
        1 - 2 * (p_PC * g_PC).sum(dim=0) / (p_PC.sum(dim=0) + g_PC.sum(dim=0))
        for p_PC, g_PC in _present_classes(logits_BCHW, target_BHW, ignore_value=ignore_value)
    ]
    return _mean(losses, like=logits_BCHW)


def lovasz_softmax_loss(logits_BCHW: Tensor, target_BHW: Tensor, *, ignore_value: int) -> Tensor:
    """The convex extension of 1 - IoU, of the errors |g - p|: arXiv 1705.08790, equations 8 to 10; 0-d.

    Args:
        logits_BCHW: scores of the classes.
        target_BHW: class ids.
        ignore_value: label of the pixels that are left out.
    """
    losses = []
    for p_PC, g_PC in _present_classes(logits_BCHW, target_BHW, ignore_value=ignore_value):
        errors_PC, order_PC = (g_PC - p_PC).abs().sort(dim=0, descending=True)
        losses.append((errors_PC * _jaccard_steps(g_PC.gather(0, order_PC))).sum(dim=0))
    return _mean(losses, like=logits_BCHW)


def _jaccard_steps(truth_PC: Tensor) -> Tensor:
    """By how much 1 - IoU grows with each pixel that is taken for wrong, the worst first."""
    true_C = truth_PC.sum(dim=0)
    intersection_PC = true_C - truth_PC.cumsum(dim=0)
    union_PC = true_C + (1 - truth_PC).cumsum(dim=0)
    loss_PC = 1 - intersection_PC / union_PC
    return torch.cat([loss_PC[:1], loss_PC.diff(dim=0)])


def _present_classes(logits_BCHW: Tensor, target_BHW: Tensor, *, ignore_value: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Of each image that has labels: probabilities and truth (0 or 1), for its labelled pixels and its classes."""
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
    """Over images, each of which has a loss for every class; images without labels count with a loss of 0."""
    return sum((loss_C.mean() for loss_C in losses), like.sum() * 0) / len(like)
