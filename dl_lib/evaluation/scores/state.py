"""Evaluation state of one process; merging is associative and independent of the assignment of images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from dl_lib.config.choices import AbsentRule
from dl_lib.data.errors import MissingDataError
from dl_lib.data.sample_loader import SkippedSample
from dl_lib.evaluation.scores.costs import summarize_costs
from dl_lib.evaluation.scores.metrics import segmentation_metrics
from dl_lib.evaluation.scores.result import EvaluationResult, ImageRecord

__all__ = ["EvaluationState"]


@dataclass(frozen=True, eq=False)
class EvaluationState:
    """Sums and records over the images of one or several processes; tensors are on the CPU.

    Attributes:
        counts: Confusion matrix, int64 (classes, classes), [true, predicted]; None without ground truth.
        boundary: Boundary counts, int64 (2, classes), see `boundary.count_boundary`; None if not requested.
        gate_sums: Gate values summed over images, float64 (edges,); None without gates.
        images: Record of each image.
        skipped: Samples that could not be used.
    """

    counts: Tensor | None
    boundary: Tensor | None
    gate_sums: Tensor | None
    images: tuple[ImageRecord, ...]
    skipped: tuple[SkippedSample, ...] = ()

    def merge(self, other: EvaluationState) -> EvaluationState:
        """Return the state over the images of both."""
        return EvaluationState(
            counts=_add(self.counts, other.counts),
            boundary=_add(self.boundary, other.boundary),
            gate_sums=_add(self.gate_sums, other.gate_sums),
            images=self.images + other.images,
            skipped=self.skipped + other.skipped,
        )

    def compute(self, *, dataset_name: str, class_names: Sequence[str], absent_rule: AbsentRule) -> EvaluationResult:
        """Compute the result.

        Raises:
            MissingDataError: If no image was evaluated.
            DataError: If there is ground truth without a single labelled pixel.
        """
        if not self.images:
            raise MissingDataError(
                f"no image of {dataset_name} was evaluated: the data set is empty, or none of its samples is usable. "
                f"Received: {len(self.skipped)} skipped samples"
            )
        metrics = None
        if self.counts is not None:
            metrics = segmentation_metrics(
                self.counts, class_names=class_names, absent_rule=absent_rule, boundary=self.boundary
            )
        return EvaluationResult(
            dataset_name=dataset_name,
            class_names=tuple(class_names),
            metrics=metrics,
            confusion=self.counts,
            costs=summarize_costs([image.costs for image in self.images]),
            mean_gates=None if self.gate_sums is None else tuple((self.gate_sums / len(self.images)).tolist()),
            images=self.images,
            skipped=self.skipped,
        )


def _add(one: Tensor | None, other: Tensor | None) -> Tensor | None:
    """Add two tensors; None counts as zero."""
    if one is None or other is None:
        return other if one is None else one
    return one + other
