"""What logits are compared with labels by: cross-entropy, and losses on the overlap of regions beside it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dl_lib.config import CfgNode
from dl_lib.modeling.losses.cross_entropy import HardExamples, PixelCrossEntropy
from dl_lib.modeling.losses.overlap import dice_loss, lovasz_softmax_loss

__all__ = ["SegmentationLoss", "build_segmentation_loss"]


@dataclass(frozen=True)
class SegmentationLoss:
    """Weighted losses of logits at the size of the labels; computed in float32 at least.

    Attributes:
        cross_entropy: with its ignore value, which holds for all of them.
        cross_entropy_weight: weight of it.
        dice_weight: weight of the dice loss; 0 leaves it out.
        lovasz_weight: weight of the Lovász-softmax loss; 0 leaves it out.
    """

    cross_entropy: PixelCrossEntropy
    cross_entropy_weight: float = 1.0
    dice_weight: float = 0.0
    lovasz_weight: float = 0.0

    def __call__(
        self, logits_BCHW: Tensor, target_BHW: Tensor, *, mean_weight: Tensor | None = None
    ) -> dict[str, Tensor]:
        """The losses (0-d), by name.

        Args:
            logits_BCHW: scores of the classes.
            target_BHW: class ids, int64.
            mean_weight: see `PixelCrossEntropy`.
        """
        logits_BCHW = logits_BCHW.to(torch.promote_types(logits_BCHW.dtype, torch.float32))
        entropy = self.cross_entropy(logits_BCHW, target_BHW, mean_weight=mean_weight)
        losses = {"loss_sem_seg": self.cross_entropy_weight * entropy}
        for name, weight, loss in (
            ("loss_dice", self.dice_weight, dice_loss),
            ("loss_lovasz", self.lovasz_weight, lovasz_softmax_loss),
        ):
            if weight:
                value = loss(logits_BCHW, target_BHW, ignore_value=self.cross_entropy.ignore_value)
                losses[name] = weight * value
        return losses


def build_segmentation_loss(cfg: CfgNode) -> SegmentationLoss:
    """The losses that `MODEL.LOSS` asks for, beside the cross-entropy."""
    loss, head = cfg.MODEL.LOSS, cfg.MODEL.SEM_SEG_HEAD
    hard = HardExamples(loss.OHEM.MAX_PROBABILITY, loss.OHEM.MIN_RATIO) if loss.OHEM.ENABLED else None
    return SegmentationLoss(
        PixelCrossEntropy(
            head.IGNORE_VALUE,
            class_weights=tuple(loss.CLASS_WEIGHTS),
            label_smoothing=loss.LABEL_SMOOTHING,
            hard_examples=hard,
        ),
        cross_entropy_weight=head.LOSS_WEIGHT,
        dice_weight=loss.DICE_WEIGHT,
        lovasz_weight=loss.LOVASZ_WEIGHT,
    )
