"""Semantic segmentation with a routed network: image in, logits and costs out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from dl_lib.config import CfgNode, ConfigError, configurable
from dl_lib.modeling.dynamic.cost import MADDS_PER_MFLOP, CostTable, NetworkCosts
from dl_lib.modeling.dynamic.counters import MaddsObserver
from dl_lib.modeling.dynamic.network import DynamicNetwork
from dl_lib.modeling.dynamic.routing import Routing
from dl_lib.modeling.heads.decoder import SemSegDecoderHead
from dl_lib.modeling.losses.budget import BudgetConstraint
from dl_lib.modeling.meta_arch.coarse import CoarseLogits, CoarsePrediction, requested_size
from dl_lib.modeling.meta_arch.images import pad_images, pad_labels
from dl_lib.modeling.registries import BACKBONE_REGISTRY, META_ARCH_REGISTRY, SEM_SEG_HEADS_REGISTRY

__all__ = ["DynamicNet4Seg"]


@META_ARCH_REGISTRY.register()
class DynamicNet4Seg(nn.Module):
    """The routed network with its head and losses.

    Args:
        backbone: the routed network.
        sem_seg_head: the head.
        pixel_mean: per channel, 0..255, in the channel order of the images.
        pixel_std: per channel.
        ignore_value: label that the loss does not look at, and that labels are padded with.
        loss_weight: weight of the cross-entropy.
        budget: the budget constraint, if there is one.
        costs: of these very parts, where some sizes are measured already.
    """

    pixel_mean: Tensor
    pixel_std: Tensor

    @configurable
    def __init__(
        self,
        backbone: DynamicNetwork,
        *,
        sem_seg_head: SemSegDecoderHead,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
        ignore_value: int,
        loss_weight: float = 1.0,
        budget: BudgetConstraint | None = None,
        costs: NetworkCosts | None = None,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.sem_seg_head = sem_seg_head
        self.ignore_value = ignore_value
        self.loss_weight = loss_weight
        self.budget = budget
        self.costs = costs or NetworkCosts(backbone, sem_seg_head)
        self.register_buffer("pixel_mean", torch.tensor(pixel_mean).view(-1, 1, 1), persistent=False)
        self.register_buffer("pixel_std", torch.tensor(pixel_std).view(-1, 1, 1), persistent=False)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        backbone = BACKBONE_REGISTRY.get(cfg.MODEL.BACKBONE.NAME)(cfg)
        head = SEM_SEG_HEADS_REGISTRY.get(cfg.MODEL.SEM_SEG_HEAD.NAME)(cfg)
        costs = NetworkCosts(backbone, head)
        return {
            "backbone": backbone,
            "sem_seg_head": head,
            "pixel_mean": cfg.MODEL.PIXEL_MEAN,
            "pixel_std": cfg.MODEL.PIXEL_STD,
            "ignore_value": cfg.MODEL.SEM_SEG_HEAD.IGNORE_VALUE,
            "loss_weight": cfg.MODEL.SEM_SEG_HEAD.LOSS_WEIGHT,
            "budget": _budget(cfg, costs) if cfg.MODEL.BUDGET.CONSTRAIN else None,
            "costs": costs,
        }

    @property
    def device(self) -> torch.device:
        return self.pixel_mean.device

    def forward(self, batched_inputs: Sequence[dict[str, Any]], step_rate: float = 0.0) -> Any:
        """Losses in training, predictions in evaluation.

        Args:
            batched_inputs: for each image `image` (C, H, W), 0..255, in the config's channel order; in training
                `sem_seg` (H, W) class ids; in evaluation `height`, `width`, if another size
                than the image's is wanted.
            step_rate: progress of the training, iteration / MAX_ITER, in [0, 1].

        Returns:
            In training `(losses, flops)`: dicts of 0-d tensors; flops in MFLOPs per image, mean of the batch.
            In evaluation, for each image, `sem_seg`: logits (classes, height, width); `flops`: MFLOPs of this image;
            `gates`: (E,) gate values in the order of `backbone.lattice.edges`, on the CPU.
            Flops are `expt_flops` and `real_flops` as the paper counts them, `real_flops_complete`: all that has to
            run, `executed_flops`: what ran; at the size of the padded batch.
        """
        if not self.training:
            coarse = self.predict_coarse(batched_inputs)
            return [one.as_output(requested_size(inputs)) for one, inputs in zip(coarse, batched_inputs, strict=True)]
        logits, _, flops = self._run(batched_inputs, step_rate=step_rate)
        labels = [inputs["sem_seg"].to(self.device, non_blocking=True) for inputs in batched_inputs]
        losses = self._losses(logits, labels, flops["expt_flops"], step_rate)
        return losses, {name: values.mean() for name, values in flops.items()}

    def predict_coarse(self, batched_inputs: Sequence[dict[str, Any]]) -> list[CoarsePrediction]:
        """What evaluation brings to the sizes asked for; to be called in that mode, with the same inputs.

        Those who put several passes over an image together do so with these.
        """
        logits, routing, flops = self._run(batched_inputs, step_rate=0.0)
        return [
            CoarsePrediction(
                CoarseLogits(logits[i], tuple(inputs["image"].shape[-2:]), upsample=self.sem_seg_head.to_input_size),
                flops={name: values[i].item() for name, values in flops.items()},
                gates=routing.gates_BE[i].cpu(),
            )
            for i, inputs in enumerate(batched_inputs)
        ]

    def _run(
        self, batched_inputs: Sequence[dict[str, Any]], *, step_rate: float
    ) -> tuple[Tensor, Routing, dict[str, Tensor]]:
        """Logits (B, classes, H / 4, W / 4) of the padded batch, the routes, and (B,) MFLOPs by name."""
        # As they are, uint8: a quarter of the bytes to move; the difference with the mean is floating point.
        raw = [inputs["image"].to(self.device, non_blocking=True) for inputs in batched_inputs]
        images = [(image - self.pixel_mean) / self.pixel_std for image in raw]
        batch = pad_images(images, divisor=self.backbone.size_divisor)
        with MaddsObserver(len(images)) as observer:
            features, routing = self.backbone(batch, step_rate=step_rate, observer=observer)
            logits = self.sem_seg_head(features)
        return logits, routing, _flops(self.costs.table(*batch.shape[-2:]), routing, observer)

    def _losses(
        self, logits: Tensor, labels: Sequence[Tensor], expected_mflops_B: Tensor, step_rate: float
    ) -> dict[str, Tensor]:
        logits = self.sem_seg_head.to_input_size(logits)
        target = pad_labels(labels, size=logits.shape[-2:], ignore_value=self.ignore_value)
        total = cross_entropy(logits, target, ignore_index=self.ignore_value, reduction="sum")
        labelled = (target != self.ignore_value).sum().clamp(min=1)  # a batch may hold nothing to learn from
        losses = {"loss_sem_seg": self.loss_weight * total / labelled}
        if self.budget is not None and self.budget.is_active(step_rate):
            losses["loss_budget"] = self.budget(expected_mflops_B.mean(), step_rate=step_rate)
        return losses


def _flops(table: CostTable, routing: Routing, observer: MaddsObserver) -> dict[str, Tensor]:
    madds_B = {
        "expt_flops": table.expected(routing),
        "real_flops": table.real_published(routing),
        "real_flops_complete": table.real_complete(routing),
        "executed_flops": torch.tensor(observer.madds, dtype=torch.float64),
    }
    return {name: values / MADDS_PER_MFLOP for name, values in madds_B.items()}


def _budget(cfg: CfgNode, costs: NetworkCosts) -> BudgetConstraint:
    budget, crop = cfg.MODEL.BUDGET, cfg.INPUT.CROP_SIZE
    if not budget.FLOPS_ALL and not crop:
        raise ConfigError(
            "the budget's whole cost is measured at the training crop, and there is none; give MODEL.BUDGET.FLOPS_ALL "
            f"in MFLOPs, or INPUT.CROP_SIZE. Received: FLOPS_ALL={budget.FLOPS_ALL}, CROP_SIZE={crop}"
        )
    dense_mflops = budget.FLOPS_ALL or costs.table(*crop).expected_all_open / MADDS_PER_MFLOP
    return BudgetConstraint(
        loss_weight=budget.LOSS_WEIGHT,
        target_share=budget.LOSS_MU,
        dense_mflops=dense_mflops,
        start_rate=budget.UNUPDATE_RATE,
        warm_up=budget.WARM_UP,
    )
