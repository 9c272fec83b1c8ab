"""What is taken down of every image, summed over processes, and turned into one result.

A process keeps sums of counted pixels and gate values, and one small record per image. `evaluate` sends them around
once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import reduce
from typing import Any

import torch
from torch import Tensor

from dl_lib.config.choices import AbsentRule
from dl_lib.data.errors import InvalidSampleError
from dl_lib.data.sample_loader import SkippedSample
from dl_lib.evaluation.scores.boundary import count_boundary
from dl_lib.evaluation.scores.confusion import ConfusionMatrix
from dl_lib.evaluation.scores.metrics import ImageScores, image_scores
from dl_lib.evaluation.scores.prediction import Prediction
from dl_lib.evaluation.scores.result import EvaluationResult, ImageRecord
from dl_lib.evaluation.scores.tally import Tally
from dl_lib.utils import comm

__all__ = ["SemSegEvaluator"]


class SemSegEvaluator:
    """Scores semantic segmentation at the label's own resolution, and takes down what each image cost.

    Args:
        dataset_name: the data set's registered name.
        class_names: one for each channel of the model's logits.
        ignore_value: label of the pixels that are left out.
        labelled: whether there is ground truth; without it, only costs are taken down.
        absent_rule: what is done about classes that the ground truth does not hold, see `metrics`.
        boundary_iou: score the classes' boundaries, too, see `boundary`.
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
    ) -> None:
        self.dataset_name = dataset_name
        self.class_names = tuple(class_names)
        self.labelled = labelled
        self.absent_rule = absent_rule
        self.boundary_iou = boundary_iou
        self._confusion = ConfusionMatrix(len(self.class_names), ignore_value=ignore_value)
        self.reset()

    def reset(self) -> None:
        """Forgets every image."""
        self._confusion.reset()
        self._boundary = torch.zeros(2, len(self.class_names), dtype=torch.int64)
        self._gate_sums: Tensor | None = None
        self._images: list[ImageRecord] = []
        self._skipped: tuple[SkippedSample, ...] = ()

    def process(self, sample: Mapping[str, Any], prediction: Prediction) -> None:
        """Takes down one image.

        Args:
            sample: with `sem_seg` integers (height, width), if there is ground truth.
            prediction: of this sample.

        Raises:
            InvalidSampleError: if there should be ground truth and the sample has none.
            ValueError: if the prediction does not fit the label, or that holds a value that is no class.
        """
        scores = self._score(sample, prediction) if self.labelled else None
        if prediction.gates is not None:
            self._gate_sums = prediction.gates if self._gate_sums is None else self._gate_sums + prediction.gates
        self._images.append(
            ImageRecord(
                image_id=prediction.image_id,
                file_name=prediction.file_name,
                input_sizes=prediction.input_sizes,
                costs=prediction.costs,
                scores=scores,
            )
        )

    def note_skipped(self, skipped: Iterable[SkippedSample]) -> None:
        """Takes down the samples that could not be used, all of this process at once."""
        self._skipped = tuple(skipped)

    def tally(self) -> Tally:
        """What this process has taken down so far."""
        return Tally(
            counts=self._confusion.counts.cpu() if self.labelled else None,
            boundary=self._boundary.cpu() if self.labelled and self.boundary_iou else None,
            gate_sums=self._gate_sums,
            images=tuple(self._images),
            skipped=self._skipped,
        )

    def evaluate(self) -> EvaluationResult:
        """The result over the images of all processes; every process has to call it, and gets the same."""
        merged = reduce(Tally.merged, comm.all_gather(self.tally()))
        return merged.result(dataset_name=self.dataset_name, class_names=self.class_names, absent_rule=self.absent_rule)

    def _score(self, sample: Mapping[str, Any], prediction: Prediction) -> ImageScores | None:
        if "sem_seg" not in sample:
            raise InvalidSampleError(
                f"image {prediction.image_id!r} of {self.dataset_name!r} has no label, and the data set is said to "
                "have ground truth; say labelled=False in its DatasetMeta if it has none. "
                f"Received: sample={sorted(sample)}"
            )
        label = sample["sem_seg"]
        try:
            counts = self._confusion.update(prediction.classes, label=label)
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
        return image_scores(counts)
