"""Distributed evaluator of semantic segmentation.

Each process accumulates pixel counts and keeps the gate values and one small record of each image; `evaluate` gathers
them once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import torch
from torch import Tensor

from dl_lib.config.choices import AbsentRule
from dl_lib.data.errors import InvalidSampleError, MissingDataError, UnlabelledDatasetError
from dl_lib.data.sample_loader import SkippedSample
from dl_lib.evaluation.scores.boundary import count_boundary
from dl_lib.evaluation.scores.confusion import ConfusionMatrix
from dl_lib.evaluation.scores.image_properties import ImageProperties, image_properties
from dl_lib.evaluation.scores.metrics import class_counts, image_scores, segmentation_metrics
from dl_lib.evaluation.scores.prediction import Prediction
from dl_lib.evaluation.scores.report_collector import CollectedData, ReportCollector
from dl_lib.evaluation.scores.result import EvaluationResult, ImageRecord, summarize_costs
from dl_lib.utils import comm

__all__ = ["EvaluationState", "SemSegEvaluator"]


@dataclass(frozen=True, eq=False)
class EvaluationState:
    """Sums and records over the images of one or several processes; tensors are on the CPU.

    Merging is associative, and the result does not depend on the assignment of images to processes.

    Attributes:
        counts: Confusion matrix, int64 (classes, classes), [true, predicted]; None without ground truth.
        boundary: Boundary counts, int64 (2, classes), see `boundary.count_boundary`; None if not requested.
        gates: Gate values of each image, float64 (images, edges); None without gates.
        images: Record of each image.
        skipped: Samples that could not be used.
        report: Report data; None if not requested.
    """

    counts: Tensor | None
    boundary: Tensor | None
    gates: Tensor | None
    images: tuple[ImageRecord, ...]
    skipped: tuple[SkippedSample, ...] = ()
    report: CollectedData | None = None

    def merge(self, other: EvaluationState) -> EvaluationState:
        """Return the state over the images of both."""
        return EvaluationState(
            counts=_add(self.counts, other.counts),
            boundary=_add(self.boundary, other.boundary),
            gates=_concatenate(self.gates, other.gates),
            images=self.images + other.images,
            skipped=self.skipped + other.skipped,
            report=None if self.report is None or other.report is None else self.report.merge(other.report),
        )

    def compute(self, *, dataset_name: str, class_names: Sequence[str], absent_rule: AbsentRule) -> EvaluationResult:
        """Compute the result.

        Raises:
            MissingDataError: If no image was evaluated.
            UnlabelledDatasetError: If there is ground truth without a single labelled pixel.
        """
        if not self.images:
            raise MissingDataError(
                f"no image of {dataset_name} was evaluated: the dataset is empty, or all its samples are invalid; run "
                f"dl_lib check-dataset {dataset_name}. Received: {len(self.skipped)} skipped samples"
            )
        metrics = None
        if self.counts is not None:
            if not self.counts.any():
                raise UnlabelledDatasetError(
                    f"no pixel of {dataset_name} is labelled: all have the ignore value, or are in skipped samples; "
                    f"fix the labels (dl_lib check-dataset {dataset_name}), or remove it from DATASETS.TEST. "
                    f"Received: {len(self.images)} images, 0 labelled pixels"
                )
            metrics = segmentation_metrics(
                self.counts, class_names=class_names, absent_rule=absent_rule, boundary=self.boundary
            )
        return EvaluationResult(
            dataset_name=dataset_name,
            class_names=tuple(class_names),
            metrics=metrics,
            confusion=self.counts,
            costs=summarize_costs([image.costs for image in self.images]),
            gates=self.gates,
            images=self.images,
            skipped=self.skipped,
            report_data=None if self.report is None else self.report.compute(self.images),
        )


class SemSegEvaluator:
    """Evaluator of semantic segmentation at the resolution of the labels, including the cost of each image.

    Args:
        dataset_name: Registered name of the dataset.
        class_names: Names of the classes, one per channel of the logits.
        ignore_value: Label of ignored pixels.
        labelled: Whether the dataset has ground truth; without it, there are no scores.
        absent_rule: Classes without ground truth pixels in the means: `exclude`, or `zero_if_predicted`.
        boundary_iou: Whether to compute boundary IoU, see `boundary`.
        report: Collector of the data for a report; None collects none.
    """

    def __init__(
        self,
        dataset_name: str,
        *,
        class_names: Sequence[str],
        ignore_value: int,
        labelled: bool = True,
        absent_rule: AbsentRule = "exclude",
        boundary_iou: bool = False,
        report: ReportCollector | None = None,
    ) -> None:
        self.dataset_name = dataset_name
        self.class_names = tuple(class_names)
        self.labelled = labelled
        self.absent_rule = absent_rule
        self.boundary_iou = boundary_iou
        self.report = report
        self._confusion = ConfusionMatrix(len(self.class_names), ignore_value=ignore_value)
        self.reset()

    def reset(self) -> None:
        self._confusion.reset()
        self._boundary = torch.zeros(2, len(self.class_names), dtype=torch.int64)
        self._gates: list[Tensor] = []
        self._images: list[ImageRecord] = []
        self._skipped: tuple[SkippedSample, ...] = ()
        if self.report is not None:
            self.report.reset()

    @property
    def needs_confidence(self) -> bool:
        """True if predictions must have a confidence."""
        return self.labelled and self.report is not None

    def process(self, sample: Mapping[str, Any], prediction: Prediction) -> None:
        """Update the state with one sample and its prediction; labelled samples have `sem_seg`, integers (H, W).

        Raises:
            InvalidSampleError: If the sample of a labelled dataset has no label.
            ValueError: If the prediction and the label differ in shape, or a value is not a class.
        """
        counts = self._count(sample, prediction) if self.labelled else None
        scores = None if counts is None else image_scores(counts)
        if prediction.gates is not None:
            self._gates.append(prediction.gates)
        record = ImageRecord(
            image_id=prediction.image_id,
            file_name=prediction.file_name,
            input_sizes=prediction.input_sizes,
            costs=prediction.costs,
            seconds=prediction.seconds,
            scores=scores,
            properties=self._properties(sample) if scores is not None and prediction.gates is not None else None,
        )
        self._images.append(record)
        if self.report is not None:
            self.report.add(sample, prediction, record=record, counts=counts)

    def set_skipped(self, skipped: Iterable[SkippedSample]) -> None:
        """Record all samples of this process that could not be used."""
        self._skipped = tuple(skipped)

    def state(self) -> EvaluationState:
        return EvaluationState(
            counts=self._confusion.counts.cpu() if self.labelled else None,
            boundary=self._boundary.cpu() if self.labelled and self.boundary_iou else None,
            gates=torch.stack(self._gates) if self._gates else None,
            images=tuple(self._images),
            skipped=self._skipped,
            report=None if self.report is None else self.report.state(),
        )

    def evaluate(self) -> EvaluationResult:
        """Compute the result over the images of all processes; a collective that returns it on every process."""
        merged = reduce(EvaluationState.merge, comm.all_gather(self.state()))
        return merged.compute(
            dataset_name=self.dataset_name, class_names=self.class_names, absent_rule=self.absent_rule
        )

    def _count(self, sample: Mapping[str, Any], prediction: Prediction) -> Tensor:
        """Add the pixels of an image to the sums; return its `class_counts` on the CPU."""
        if "sem_seg" not in sample:
            raise InvalidSampleError(
                f"image {prediction.image_id!r} of {self.dataset_name!r} has no label, but its dataset is registered "
                f"with ground truth; set labelled=False in the DatasetMeta. Received: sample={sorted(sample)}"
            )
        label = sample["sem_seg"]
        try:
            confusion = self._confusion.update(prediction.classes, label=label)
        except ValueError as error:
            raise ValueError(f"image {prediction.image_id!r} of {self.dataset_name!r}: {error}") from error
        if self.boundary_iou:
            boundary = count_boundary(
                prediction.classes,
                label=label,
                num_classes=len(self.class_names),
                ignore_value=self._confusion.ignore_value,
            )
            self._boundary = self._boundary.to(boundary.device) + boundary
        return class_counts(confusion).cpu()

    def _properties(self, sample: Mapping[str, Any]) -> ImageProperties | None:
        label, ignore_value = sample["sem_seg"].cpu().numpy(), self._confusion.ignore_value
        return image_properties(label, class_names=self.class_names, ignore_value=ignore_value)


def _add(one: Tensor | None, other: Tensor | None) -> Tensor | None:
    """Add two tensors; None counts as zero."""
    if one is None or other is None:
        return other if one is None else one
    return one + other


def _concatenate(*parts: Tensor | None) -> Tensor | None:
    """Concatenate the tensors that are not None; None if there are none."""
    tensors = [part for part in parts if part is not None]
    return torch.cat(tensors) if tensors else None
