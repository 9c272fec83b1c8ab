"""What is taken down of every image, summed over processes, and turned into one result.

A process keeps a confusion matrix, a sum of gate values and one small record per image. `evaluate` sends them
around once; merging is associative, and what comes out does not depend on how the images were dealt out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import torch
from torch import Tensor

from dl_lib.evaluation.confusion import ConfusionMatrix
from dl_lib.evaluation.costs import CostStatistics, ImageCosts, median_seconds, summarise_costs
from dl_lib.evaluation.metrics import SegmentationMetrics, segmentation_metrics
from dl_lib.utils import comm

__all__ = ["EvaluationResult", "ImageRecord", "SemSegEvaluator", "Tally"]


@dataclass(frozen=True)
class ImageRecord:
    """One image as the model saw it: its size in pixels, and what it cost."""

    image_id: str
    input_height: int
    input_width: int
    costs: ImageCosts


@dataclass(frozen=True)
class EvaluationResult:
    """What is known about a model after it has seen a data set.

    Attributes:
        dataset_name: the data set's registered name.
        metrics: scores, as shares.
        costs: GFLOPs per image.
        mean_gates: mean over the images of every edge's gate value, in the order of the lattice's edges;
            None for networks without gates.
        images: a record of each image.
    """

    dataset_name: str
    metrics: SegmentationMetrics
    costs: CostStatistics
    mean_gates: tuple[float, ...] | None
    images: tuple[ImageRecord, ...]

    @property
    def num_images(self) -> int:
        return len(self.images)

    @property
    def seconds_per_image(self) -> float:
        """The model's own wall time, without loading and scoring; the median over the images."""
        return median_seconds([image.costs for image in self.images])


@dataclass(frozen=True, eq=False)
class Tally:
    """What one process has taken down; tensors lie on the CPU.

    Attributes:
        counts: int64 (classes, classes), [true, predicted].
        gate_sums: float64 (edges,), or None where no gate was seen.
        images: a record of each image.
    """

    counts: Tensor
    gate_sums: Tensor | None
    images: tuple[ImageRecord, ...]

    def merged(self, other: Tally) -> Tally:
        """The tally of both processes' images."""
        sums = [tally.gate_sums for tally in (self, other) if tally.gate_sums is not None]
        return Tally(
            counts=self.counts + other.counts,
            gate_sums=torch.stack(sums).sum(dim=0) if sums else None,
            images=self.images + other.images,
        )

    def result(self, *, dataset_name: str, class_names: Sequence[str]) -> EvaluationResult:
        """Computes everything that is reported.

        Raises:
            ValueError: if no image was evaluated.
        """
        if not self.images:
            raise ValueError(f"no image was evaluated: is the data set empty? Received: dataset_name={dataset_name!r}")
        gates = None if self.gate_sums is None else tuple((self.gate_sums / len(self.images)).tolist())
        return EvaluationResult(
            dataset_name=dataset_name,
            metrics=segmentation_metrics(self.counts, class_names=class_names),
            costs=summarise_costs([image.costs for image in self.images]),
            mean_gates=gates,
            images=self.images,
        )


class SemSegEvaluator:
    """Scores semantic segmentation at the label's own resolution, and takes down what each image cost.

    Args:
        dataset_name: the data set's registered name.
        class_names: one for each channel of the model's logits.
        ignore_value: label of the pixels that are left out.
    """

    def __init__(self, dataset_name: str, *, class_names: Sequence[str], ignore_value: int) -> None:
        self.dataset_name = dataset_name
        self.class_names = tuple(class_names)
        self._confusion = ConfusionMatrix(len(self.class_names), ignore_value=ignore_value)
        self.reset()

    def reset(self) -> None:
        """Forgets every image."""
        self._confusion.reset()
        self._gate_sums: Tensor | None = None
        self._images: list[ImageRecord] = []

    def process(
        self, inputs: Sequence[Mapping[str, Any]], outputs: Sequence[Mapping[str, Any]], *, seconds: float = 0.0
    ) -> None:
        """Takes down the images of one batch.

        Args:
            inputs: samples with `image` (3, H, W), `sem_seg` integers (height, width), `image_id`.
            outputs: for each of them `sem_seg` logits (classes, height, width), `flops`, and `gates` (edges,) if any.
            seconds: wall time that the model took for the batch.

        Raises:
            KeyError: if a sample has no label or an output no costs.
            ValueError: if an output does not fit its label, or a label holds a value that is no class.
        """
        if len(inputs) != len(outputs):
            raise ValueError(
                "a model has to return one output for each input. "
                f"Received: len(inputs)={len(inputs)}, len(outputs)={len(outputs)}"
            )
        for sample, output in zip(inputs, outputs, strict=True):
            self._process_image(sample, output=output, seconds=seconds / len(inputs))

    def tally(self) -> Tally:
        """What this process has taken down so far."""
        return Tally(counts=self._confusion.counts.cpu(), gate_sums=self._gate_sums, images=tuple(self._images))

    def evaluate(self) -> EvaluationResult:
        """The result over the images of all processes; every process has to call it, and gets the same."""
        merged = reduce(Tally.merged, comm.all_gather(self.tally()))
        return merged.result(dataset_name=self.dataset_name, class_names=self.class_names)

    def _process_image(self, sample: Mapping[str, Any], *, output: Mapping[str, Any], seconds: float) -> None:
        image_id = str(sample.get("image_id", len(self._images)))
        if "sem_seg" not in sample:
            raise KeyError(
                f"image {image_id!r} of {self.dataset_name!r} has no label: a data set without ground truth cannot be "
                f"scored. Received: sample={sorted(sample)}"
            )
        costs = ImageCosts.from_flops(output["flops"], seconds=seconds)
        self._score(output["sem_seg"], label=sample["sem_seg"], image_id=image_id)
        if "gates" in output:
            gates = output["gates"].double().cpu()
            self._gate_sums = gates if self._gate_sums is None else self._gate_sums + gates
        height, width = sample["image"].shape[-2:]
        self._images.append(ImageRecord(image_id, input_height=height, input_width=width, costs=costs))

    def _score(self, logits: Tensor, *, label: Tensor, image_id: str) -> None:
        if logits.ndim != 3 or len(logits) != len(self.class_names):
            raise ValueError(
                f"{self.dataset_name!r} has {len(self.class_names)} classes, so logits have to be "
                f"({len(self.class_names)}, height, width); see MODEL.SEM_SEG_HEAD.NUM_CLASSES. "
                f"Received: logits.shape={tuple(logits.shape)}"
            )
        try:
            self._confusion.update(logits.argmax(dim=0), label=label)
        except ValueError as error:
            raise ValueError(f"image {image_id!r} of {self.dataset_name!r}: {error}") from error
