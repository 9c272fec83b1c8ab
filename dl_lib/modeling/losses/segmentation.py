"""Segmentation loss: weighted sum of cross-entropy, dice, Lovász-softmax and registered losses (`MODEL.LOSS`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from dl_lib.config import CfgNode
from dl_lib.modeling.build import LOSS_REGISTRY
from dl_lib.modeling.losses.cross_entropy import HardExamples, PixelCrossEntropy
from dl_lib.modeling.losses.overlap import dice_loss, lovasz_softmax_loss

__all__ = ["SegmentationLoss", "build_segmentation_loss", "segmentation_loss_names"]

_EXTRA_PREFIX = "loss_extra_"


@dataclass(frozen=True)
class SegmentationLoss:
    """Weighted losses on logits at label resolution, computed in float32 or higher.

    Attributes:
        cross_entropy: Cross-entropy; its ignore value applies to all losses.
        cross_entropy_weight: Weight of the cross-entropy.
        dice_weight: Weight of the dice loss; 0 disables it.
        lovasz_weight: Weight of the Lovász-softmax loss; 0 disables it.
        extra: Losses of `LOSS_REGISTRY` by name.
    """

    cross_entropy: PixelCrossEntropy
    cross_entropy_weight: float = 1.0
    dice_weight: float = 0.0
    lovasz_weight: float = 0.0
    extra: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = field(default_factory=dict)

    def __call__(
        self, logits_BCHW: Tensor, target_BHW: Tensor, *, mean_weight: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Return the losses (0-d), by name, for int64 class ids; `mean_weight`: see `PixelCrossEntropy`."""
        logits_BCHW = logits_BCHW.to(torch.promote_types(logits_BCHW.dtype, torch.float32))
        entropy = self.cross_entropy(logits_BCHW, target_BHW, mean_weight=mean_weight)
        losses, ignore_value = {"loss_sem_seg": self.cross_entropy_weight * entropy}, self.cross_entropy.ignore_value
        if self.dice_weight:
            losses["loss_dice"] = self.dice_weight * dice_loss(logits_BCHW, target_BHW, ignore_value=ignore_value)
        if self.lovasz_weight:
            value = lovasz_softmax_loss(logits_BCHW, target_BHW, ignore_value=ignore_value)
            losses["loss_lovasz"] = self.lovasz_weight * value
        return losses | {f"{_EXTRA_PREFIX}{name}": loss(logits_BCHW, target_BHW) for name, loss in self.extra.items()}


def build_segmentation_loss(cfg: CfgNode) -> SegmentationLoss:
    """Build the loss from `MODEL.LOSS` and `MODEL.SEM_SEG_HEAD`."""
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
        extra={name: LOSS_REGISTRY.get(name)(cfg) for name in loss.EXTRA},
    )


def segmentation_loss_names(cfg: CfgNode) -> tuple[str, ...]:
    """Return the names of the losses that `build_segmentation_loss` computes for a config."""
    loss = cfg.MODEL.LOSS
    weights = {"loss_dice": loss.DICE_WEIGHT, "loss_lovasz": loss.LOVASZ_WEIGHT}
    optional = (name for name, weight in weights.items() if weight)
    return ("loss_sem_seg", *optional, *(f"{_EXTRA_PREFIX}{name}" for name in loss.EXTRA))
