"""What one process has taken down: merging is associative, and the outcome independent of who saw which image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from dl_lib.config.choices import AbsentRule
from dl_lib.data.errors import MissingDataError
from dl_lib.data.sample_loader import SkippedSample
from dl_lib.evaluation.scores.costs import summarise_costs
from dl_lib.evaluation.scores.metrics import segmentation_metrics
from dl_lib.evaluation.scores.result import EvaluationResult, ImageRecord

__all__ = ["Tally"]


@dataclass(frozen=True, eq=False)
class Tally:
    """Sums over images; tensors lie on the CPU.

    Attributes:
        counts: int64 (classes, classes), [true, predicted]; None for data sets without ground truth.
        boundary: int64 (2, classes), see `boundary.count_boundary`; None where boundaries are not scored.
        gate_sums: float64 (edges,), or None where no gate was seen.
        images: a record of each image.
        skipped: the samples that could not be used.
    """

    counts: Tensor | None
    boundary: Tensor | None
    gate_sums: Tensor | None
    images: tuple[ImageRecord, ...]
    skipped: tuple[SkippedSample, ...] = ()

    def merged(self, other: Tally) -> Tally:
        """The tally of both processes' images."""
        return Tally(
            counts=_added(self.counts, other.counts),
            boundary=_added(self.boundary, other.boundary),
            gate_sums=_added(self.gate_sums, other.gate_sums),
            images=self.images + other.images,
            skipped=self.skipped + other.skipped,
        )

    def result(self, *, dataset_name: str, class_names: Sequence[str], absent_rule: AbsentRule) -> EvaluationResult:
        """Computes everything that is reported.

        Raises:
            MissingDataError: if no image was evaluated.
            DataError: if there is ground truth, and not a single pixel of it is labelled.
        """
        if not self.images:
            raise MissingDataError(
                f"no image of {dataset_name} was evaluated: the data set is empty, or none of its samples can be used. "
                f"Received: {len(self.skipped)} samples that were skipped"
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
            costs=summarise_costs([image.costs for image in self.images]),
            mean_gates=None if self.gate_sums is None else tuple((self.gate_sums / len(self.images)).tolist()),
            images=self.images,
            skipped=self.skipped,
        )


def _added(one: Tensor | None, other: Tensor | None) -> Tensor | None:
    """The sum of those that are there."""
    if one is None or other is None:
        return other if one is None else one
    return one + other
