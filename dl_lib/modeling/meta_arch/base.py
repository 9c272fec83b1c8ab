"""Base class of segmentation models: preprocessing, losses and output format around a network."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from dl_lib.config import CfgNode, ConfigError
from dl_lib.layers import KernelAttention, ShapeSpec
from dl_lib.modeling.costs.costs import Costs
from dl_lib.modeling.heads.base import AuxiliaryHead, SemSegHead
from dl_lib.modeling.losses.segmentation import SegmentationLoss, build_segmentation_loss, segmentation_loss_names
from dl_lib.modeling.meta_arch.batching import (
    StepMeans,
    check_label_sizes,
    check_pixel_range,
    group_by_padded_size,
    pad_images,
    pad_labels,
)
from dl_lib.modeling.meta_arch.coarse import CoarseLogits, CoarsePrediction, requested_size

__all__ = ["NetworkOutput", "SegmentationModel"]

_AUXILIARY_PREFIX = "loss_auxiliary_"  # followed by the feature


@dataclass(frozen=True, eq=False)
class NetworkOutput:
    """Output of backbone and head for a padded batch of B images (B, 3, H, W).

    Attributes:
        logits: Logits (B, classes, H / s, W / s) at the stride s of the head.
        features: Feature maps by name, including those of auxiliary heads.
        costs: Costs (B,) of the images.
        gates_BE: Gate values; None without gates.
    """

    logits: Tensor
    features: Mapping[str, Tensor]
    costs: Costs[Tensor]
    gates_BE: Tensor | None


class SegmentationModel(nn.Module, ABC):
    """Backbone with segmentation head, losses and auxiliary heads.

    Args:
        backbone: Network from images to feature maps.
        sem_seg_head: Head from feature maps to logits.
        loss: Loss on the logits; labels are padded with its ignore value.
        pixel_mean: Mean per channel, in the channel order of the images, which have values in 0..255.
        pixel_std: Standard deviation per channel. If a mean or standard deviation exceeds 1, floating-point images with
            values in 0..1 are refused.
        size_divisor: Batches are padded to sides that are multiples of this.
        auxiliary_heads: Heads used in training only, by the name of their input feature.
        auxiliary_weight: Weight of the auxiliary losses.
        temp_anneal_rate: Fraction of training in which the temperature of dynamic convolutions falls to 1. Frozen
            dynamic convolutions keep theirs.
        compiled: Run backbone and head as one graph compiled by `torch.compile`; sparse execution is not compiled.

    Attributes:
        network_dtype: Dtype of the network's input; None for that of the normalized images.
        network_function: Function from (backbone, head, batch, ...) to what `run` needs, which can be compiled; None if
            there is none.
    """

    network_function: Callable[..., Any] | None = None
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
        compiled: bool = False,
    ) -> None:
        super().__init__()
        self.network_dtype: torch.dtype | None = None
        self.set_compiled(compiled)
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
        self._expects_0_to_255 = max(*pixel_mean, *pixel_std) > 1
        self.register_buffer("pixel_mean", torch.tensor(pixel_mean).view(-1, 1, 1), persistent=False)
        self.register_buffer("pixel_std", torch.tensor(pixel_std).view(-1, 1, 1), persistent=False)

    @staticmethod
    def common_arguments(cfg: CfgNode, output_shapes: Mapping[str, ShapeSpec]) -> dict[str, Any]:
        """Return the constructor arguments that all models read from the config in the same way."""
        auxiliary, head = cfg.MODEL.AUXILIARY_HEADS, cfg.MODEL.SEM_SEG_HEAD
        return {
            "loss": build_segmentation_loss(cfg),
            "pixel_mean": cfg.MODEL.PIXEL_MEAN,
            "pixel_std": cfg.MODEL.PIXEL_STD,
            "auxiliary_weight": auxiliary.LOSS_WEIGHT,
            "temp_anneal_rate": cfg.MODEL.TEMP_ANNEAL_RATE,
            "compiled": cfg.MODEL.COMPILE,
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

    def set_compiled(self, compiled: bool) -> None:
        """Run `network_function` as one graph compiled by `torch.compile`, or eagerly.

        Compilation happens at the first call with each input size, and the graph's modules cannot be observed.

        Raises:
            ConfigError: If the class has no `network_function`.
        """
        function = type(self).network_function
        if compiled and function is None:
            raise ConfigError(
                "MODEL.COMPILE and TEST.EXECUTION=compiled need a function to compile; define network_function in the "
                f"model's class, or compile nothing. Received: MODEL.META_ARCHITECTURE={type(self).__name__}"
            )
        self.compiled = compiled
        self._run_network: Any = torch.compile(function) if compiled else function

    @abstractmethod
    def run(self, batch: Tensor, *, step_rate: float) -> NetworkOutput:
        """Run backbone and head on normalized images (B, 3, H, W) whose sides are multiples of `size_divisor`."""

    @property
    def device(self) -> torch.device:
        return self.pixel_mean.device

    def forward(
        self,
        batched_inputs: Sequence[dict[str, Any]],
        step_rate: float | None = None,
        step_means: StepMeans | None = None,
    ) -> Any:
        """Compute losses in training mode, predictions in evaluation mode.

        Args:
            batched_inputs: One dict per image. `image` (C, H, W), 0..255, in the config's channel order; in training
                `sem_seg` (H, W), class ids; in evaluation optionally `height` and `width` of the output, by default
                those of the image.
            step_rate: Training progress, iteration / MAX_ITER, in [0, 1]. None, for passes outside the training loop,
                is treated as 0, except that dynamic convolutions keep their temperature.
            step_means: Means over all batches of the step, if this batch is one of several (gradient accumulation).

        Returns:
            In training `(losses, metrics)`, dicts of 0-d tensors. The metrics are the costs in MFLOPs per image,
            averaged over the batch, and those of `extra_metrics`.

            In evaluation one dict per image, independent of the other images of the batch. `sem_seg`: logits (classes,
            height, width). `flops`: MFLOPs of this image at its padded size: `expt_flops` and `real_flops`, counted as
            in the paper; `real_flops_complete`, all modules that must run; `executed_flops`, all modules that ran.
            `gates`, for networks with gates: gate values (E,) in the order of `backbone.lattice.edges`, on the CPU.
        """
        if not self.training:
            predictions = self.predict_coarse(batched_inputs)
            return [
                prediction.as_output(requested_size(inputs))
                for prediction, inputs in zip(predictions, batched_inputs, strict=True)
            ]
        if step_rate is not None:
            self._anneal(step_rate)
        step_rate = step_rate or 0.0
        output = self.run(self.preprocess_images(batched_inputs), step_rate=step_rate)
        losses = self._losses(output, batched_inputs, step_means=step_means)
        losses |= self.extra_losses(output, step_rate=step_rate, step_means=step_means)
        flops = {name: mflops_B.mean() for name, mflops_B in output.costs.to_flops_dict().items()}
        return losses, flops | self.extra_metrics(output)

    def extra_losses(
        self, output: NetworkOutput, *, step_rate: float, step_means: StepMeans | None
    ) -> dict[str, Tensor]:
        """Return losses that do not depend on the labels (0-d), by name; none by default."""
        return {}

    def extra_metrics(self, output: NetworkOutput) -> dict[str, Tensor]:
        """Return further metrics to log (0-d, without gradients), by name; none by default."""
        return {}

    def step_means(self, batches: Sequence[Sequence[dict[str, Any]]]) -> StepMeans:
        """Return the means over all batches of a step, needed before the backward pass of the first one.

        Args:
            batches: Batches whose gradients are accumulated before one optimizer step.
        """
        labels = [inputs["sem_seg"] for batch in batches for inputs in batch]
        return StepMeans.of(labels, loss=self.loss.cross_entropy, num_batches=len(batches), like=self.pixel_mean)

    def _anneal(self, step_rate: float) -> None:
        for attention in self._attentions:
            attention.anneal(step_rate, anneal_rate=self.temp_anneal_rate)

    def label_losses(self, batched_inputs: Sequence[dict[str, Any]]) -> dict[str, Tensor]:
        """Return the losses on the labels (0-d) in the model's current mode, for the inputs of training."""
        output = self.run(self.preprocess_images(batched_inputs), step_rate=0.0)
        return self._losses(output, batched_inputs, step_means=None)

    @classmethod
    def label_loss_names(cls, cfg: CfgNode) -> tuple[str, ...]:
        """Return the names of `label_losses`, which can be metrics of a run; override both together."""
        auxiliary = (f"{_AUXILIARY_PREFIX}{name}" for name in cfg.MODEL.AUXILIARY_HEADS.IN_FEATURES)
        return (*segmentation_loss_names(cfg), *auxiliary)

    def predict_coarse(self, batched_inputs: Sequence[dict[str, Any]]) -> list[CoarsePrediction]:
        """Return predictions at the output stride, for the inputs of evaluation; call it in evaluation mode.

        Multi-scale, flip and sliding-window inference accumulate these over several passes. Images of equal padded
        size share a forward pass. Others do not: gates and pooling average over the padding, so that the prediction
        for an image would depend on the images next to it.
        """
        images = [inputs["image"] for inputs in batched_inputs]
        predictions: dict[int, CoarsePrediction] = {}
        for positions in group_by_padded_size(images, divisor=self.size_divisor):
            group = [batched_inputs[position] for position in positions]
            predictions |= zip(positions, self._predict_group(group), strict=True)
        return [predictions[position] for position in range(len(batched_inputs))]

    def _predict_group(self, batched_inputs: Sequence[dict[str, Any]]) -> list[CoarsePrediction]:
        output = self.run(self.preprocess_images(batched_inputs), step_rate=0.0)
        logits = output.logits.to(torch.promote_types(output.logits.dtype, torch.float32))
        return [
            CoarsePrediction(
                CoarseLogits(
                    logits[i],
                    tuple(inputs["image"].shape[-2:]),
                    stride=self.sem_seg_head.stride,
                    upsample=self.sem_seg_head.to_input_size,
                ),
                costs=output.costs.of_image(i),
                gates=None if output.gates_BE is None else output.gates_BE[i].cpu(),
            )
            for i, inputs in enumerate(batched_inputs)
        ]

    def preprocess_images(self, batched_inputs: Sequence[dict[str, Any]]) -> Tensor:
        """Return the images of the inputs as a normalized, padded batch (B, 3, H, W)."""
        if self._expects_0_to_255:
            check_pixel_range([inputs["image"] for inputs in batched_inputs])
        # Transfer as uint8, a quarter of the bytes; subtracting the mean promotes to floating point.
        raw = [inputs["image"].to(self.device, non_blocking=True) for inputs in batched_inputs]
        images = [(image - self.pixel_mean) / self.pixel_std for image in raw]
        batch = pad_images(images, divisor=self.size_divisor)
        return batch if self.network_dtype is None else batch.to(self.network_dtype)

    def _losses(
        self, output: NetworkOutput, batched_inputs: Sequence[dict[str, Any]], *, step_means: StepMeans | None
    ) -> dict[str, Tensor]:
        check_label_sizes(batched_inputs)
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
            loss = self.auxiliary_weight * entropy(logits, target, mean_weight=mean_weight)
            losses[f"{_AUXILIARY_PREFIX}{name}"] = loss
        return losses
