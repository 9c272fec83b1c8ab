"""What every segmentation model does around its network: images in, losses or predictions out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from dl_lib.config import CfgNode
from dl_lib.layers import KernelAttention, ShapeSpec
from dl_lib.modeling.heads.auxiliary import AuxiliaryHead
from dl_lib.modeling.heads.base import SemSegHead
from dl_lib.modeling.losses.segmentation import SegmentationLoss, build_segmentation_loss
from dl_lib.modeling.meta_arch.coarse import CoarseLogits, CoarsePrediction, requested_size
from dl_lib.modeling.meta_arch.images import pad_images, pad_labels
from dl_lib.modeling.meta_arch.step_means import StepMeans

__all__ = ["NetworkOutput", "SegmentationModel"]


@dataclass(frozen=True, eq=False)
class NetworkOutput:
    """What a network makes of a padded batch of B images (B, 3, H, W).

    Attributes:
        logits: (B, classes, H / s, W / s) at the stride s of the head.
        features: by name, those that auxiliary heads look at among them.
        mflops: (B,) millions of multiply-adds, by the names that `SegmentationModel.forward` gives them.
        gates_BE: gate values; None for networks without gates.
    """

    logits: Tensor
    features: Mapping[str, Tensor]
    mflops: Mapping[str, Tensor]
    gates_BE: Tensor | None


class SegmentationModel(nn.Module, ABC):
    """A backbone with a head, losses, and heads that only help to train.

    Args:
        backbone: the network up to the features.
        sem_seg_head: features to logits.
        auxiliary_heads: by the name of the feature that each looks at.
        auxiliary_weight: weight of their losses.
        loss: of the logits; its ignore value is also what labels are padded with.
        pixel_mean: per channel, 0..255, in the channel order of the images.
        pixel_std: per channel.
        size_divisor: what the sides of batches are padded to multiples of.
        temp_anneal_rate: share of the training in which the temperature of dynamic convolutions falls to 1; that of
            frozen ones stays.
    """

    pixel_mean: Tensor
    pixel_std: Tensor

    def __init__(
        self,
        backbone: nn.Module,
        *,
        sem_seg_head: SemSegHead,
        loss: SegmentationLoss,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
        size_divisor: int,
        auxiliary_heads: Mapping[str, AuxiliaryHead] | None = None,
        auxiliary_weight: float = 0.0,
        temp_anneal_rate: float = 0.05,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.sem_seg_head = sem_seg_head
        self.auxiliary_heads = nn.ModuleDict(dict(auxiliary_heads or {}))
        self.auxiliary_weight = auxiliary_weight
        self.loss = loss
        self.size_divisor = size_divisor
        self.temp_anneal_rate = temp_anneal_rate
        self._attentions = tuple(
            module
            for module in self.modules()
            if isinstance(module, KernelAttention) and any(p.requires_grad for p in module.parameters())
        )
        self.register_buffer("pixel_mean", torch.tensor(pixel_mean).view(-1, 1, 1), persistent=False)
        self.register_buffer("pixel_std", torch.tensor(pixel_std).view(-1, 1, 1), persistent=False)

    @staticmethod
    def common_arguments(cfg: CfgNode, output_shapes: Mapping[str, ShapeSpec]) -> dict[str, Any]:
        """What follows from a configuration for every model, given the shapes of its backbone's features."""
        auxiliary, head = cfg.MODEL.AUXILIARY_HEADS, cfg.MODEL.SEM_SEG_HEAD
        return {
            "loss": build_segmentation_loss(cfg),
            "pixel_mean": cfg.MODEL.PIXEL_MEAN,
            "pixel_std": cfg.MODEL.PIXEL_STD,
            "auxiliary_weight": auxiliary.LOSS_WEIGHT,
            "temp_anneal_rate": cfg.MODEL.TEMP_ANNEAL_RATE,
            "auxiliary_heads": {
                name: AuxiliaryHead(
                    output_shapes[name].channels,
                    channels=auxiliary.CHANNELS,
                    num_classes=head.NUM_CLASSES,
                    norm=head.NORM,
                )
                for name in auxiliary.IN_FEATURES
            },
        }

    @abstractmethod
    def run(self, batch: Tensor, *, step_rate: float) -> NetworkOutput:
        """Backbone and head on normalised images (B, 3, H, W), whose sides `size_divisor` divides."""

    @property
    def device(self) -> torch.device:
        return self.pixel_mean.device

    def forward(
        self,
        batched_inputs: Sequence[dict[str, Any]],
        step_rate: float | None = None,
        step_means: StepMeans | None = None,
    ) -> Any:
        """Losses in training, predictions in evaluation.

        Args:
            batched_inputs: for each image `image` (C, H, W), 0..255, in the config's channel order; in training
                `sem_seg` (H, W) class ids; in evaluation `height`, `width`, if another size
                than the image's is wanted.
            step_rate: progress of the training, iteration / MAX_ITER, in [0, 1]; None, of a run that only looks at
                what training would do: as at the start, but dynamic convolutions keep their temperature.
            step_means: in training, where this batch is one part of a step: what is known of all of its parts.

        Returns:
            In training `(losses, logged)`: dicts of 0-d tensors. What is only logged are flops, in MFLOPs per image,
            mean of the batch, and what `further_logged` gives.
            In evaluation, for each image, `sem_seg`: logits (classes, height, width); `flops`: MFLOPs of this image;
            `gates`: (E,) gate values in the order of `backbone.lattice.edges`, on the CPU, where there are gates.
            Flops are `expt_flops` and `real_flops` as the paper counts them, `real_flops_complete`: all that has to
            run, `executed_flops`: what ran; at the size of the padded batch.
        """
        if not self.training:
            coarse = self.predict_coarse(batched_inputs)
            return [one.as_output(requested_size(inputs)) for one, inputs in zip(coarse, batched_inputs, strict=True)]
        if step_rate is not None:
            self._anneal(step_rate)
        step_rate = step_rate or 0.0
        output = self.run(self.batch_of(batched_inputs), step_rate=step_rate)
        losses = self._losses(output, batched_inputs, step_means=step_means)
        losses |= self.further_losses(output, step_rate=step_rate, step_means=step_means)
        return losses, {name: v.mean() for name, v in output.mflops.items()} | self.further_logged(output)

    def further_losses(
        self, output: NetworkOutput, *, step_rate: float, step_means: StepMeans | None
    ) -> dict[str, Tensor]:
        """Losses that are not about the labels; none here."""
        return {}

    def further_logged(self, output: NetworkOutput) -> dict[str, Tensor]:
        """What is worth watching beside losses and flops, 0-d, without gradients; nothing here."""
        return {}

    def step_means(self, parts: Sequence[Sequence[dict[str, Any]]], *, step_rate: float) -> StepMeans:
        """What has to be known of all parts of a step before the first of them goes backward, at its temperature.

        Args:
            parts: batches that are learnt from one after the other, before the optimizer steps once.
            step_rate: progress of the training.
        """
        self._anneal(step_rate)
        labels = [inputs["sem_seg"] for part in parts for inputs in part]
        return StepMeans.of(labels, loss=self.loss.cross_entropy, num_parts=len(parts), like=self.pixel_mean)

    def _anneal(self, step_rate: float) -> None:
        for attention in self._attentions:
            attention.anneal(step_rate, anneal_rate=self.temp_anneal_rate)

    def label_losses(self, batched_inputs: Sequence[dict[str, Any]]) -> dict[str, Tensor]:
        """The losses of the labels, 0-d, in the mode in which the model is; the inputs are those of training."""
        return self._losses(self.run(self.batch_of(batched_inputs), step_rate=0.0), batched_inputs, step_means=None)

    def predict_coarse(self, batched_inputs: Sequence[dict[str, Any]]) -> list[CoarsePrediction]:
        """What evaluation brings to the sizes asked for; to be called in that mode, with the same inputs.

        Those who put several passes over an image together do so with these.
        """
        output = self.run(self.batch_of(batched_inputs), step_rate=0.0)
        return [
            CoarsePrediction(
                CoarseLogits(
                    output.logits[i],
                    tuple(inputs["image"].shape[-2:]),
                    stride=self.sem_seg_head.stride,
                    upsample=self.sem_seg_head.to_input_size,
                ),
                flops={name: values[i].item() for name, values in output.mflops.items()},
                gates=None if output.gates_BE is None else output.gates_BE[i].cpu(),
            )
            for i, inputs in enumerate(batched_inputs)
        ]

    def batch_of(self, batched_inputs: Sequence[dict[str, Any]]) -> Tensor:
        """The images of the inputs, normalised and padded, (B, 3, H, W)."""
        # As they are, uint8: a quarter of the bytes to move; the difference with the mean is floating point.
        raw = [inputs["image"].to(self.device, non_blocking=True) for inputs in batched_inputs]
        images = [(image - self.pixel_mean) / self.pixel_std for image in raw]
        return pad_images(images, divisor=self.size_divisor)

    def _losses(
        self, output: NetworkOutput, batched_inputs: Sequence[dict[str, Any]], *, step_means: StepMeans | None
    ) -> dict[str, Tensor]:
        labels = [inputs["sem_seg"].to(self.device, non_blocking=True) for inputs in batched_inputs]
        logits = self.sem_seg_head.to_input_size(output.logits)
        size, entropy = logits.shape[-2:], self.loss.cross_entropy
        target = pad_labels(labels, size=size, ignore_value=entropy.ignore_value)
        mean_weight = None if step_means is None else step_means.label_weight
        losses = self.loss(logits, target, mean_weight=mean_weight)
        for name, head in self.auxiliary_heads.items():
            coarse = head(output.features[name])
            logits = interpolate(coarse, size=size, mode="bilinear", align_corners=False)
            logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
            losses[f"loss_auxiliary_{name}"] = self.auxiliary_weight * entropy(logits, target, mean_weight=mean_weight)
        return losses
