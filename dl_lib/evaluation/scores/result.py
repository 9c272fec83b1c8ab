"""What an evaluation comes to: a record of each image, and everything that is known of the data set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

from dl_lib.data.sample_loader import SkippedSample
from dl_lib.evaluation.scores.costs import CostStatistics, ImageCosts, median_seconds
from dl_lib.evaluation.scores.metrics import ImageScores, SegmentationMetrics

__all__ = ["EvaluationResult", "ImageRecord", "OfficialScores"]


@dataclass(frozen=True)
class ImageRecord:
    """One image: what the model saw of it, what it cost, and how well it was segmented.

    Attributes:
        image_id: unique within the data set.
        file_name: of the image.
        input_sizes: (height, width) in pixels of the image in each pass of the network over it.
        costs: of all passes together.
        scores: None where not one pixel is labelled.
    """

    image_id: str
    file_name: str
    input_sizes: tuple[tuple[int, int], ...]
    costs: ImageCosts
    scores: ImageScores | None


@dataclass(frozen=True)
class OfficialScores:
    """What a benchmark's own script says, as shares in [0, 1]; None where it has no score for a class.

    Attributes:
        source: name and version of the script's package.
        mean_class_iou: mean of `class_iou`.
        mean_category_iou: mean of `category_iou`.
        class_iou: by the names of the classes.
        category_iou: by the names of the groups of classes.
    """

    source: str
    mean_class_iou: float | None
    mean_category_iou: float | None
    class_iou: Mapping[str, float | None]
    category_iou: Mapping[str, float | None]


@dataclass(frozen=True)
class EvaluationResult:
    """What is known about a model after it has seen a data set.

    Attributes:
        dataset_name: the data set's registered name.
        class_names: of the data set.
        metrics: scores, as shares; None for data sets without ground truth.
        confusion: int64 (classes, classes), [true, predicted]; None for data sets without ground truth.
        costs: GFLOPs per image.
        mean_gates: mean over the images of every edge's gate value, in the order of the lattice's edges;
            None for networks without gates.
        images: a record of each image, in the order of the data set.
        skipped: the samples that could not be used, and that no figure knows of.
        official: scores by the benchmark's own script, where these were asked for.
    """

    dataset_name: str
    class_names: tuple[str, ...]
    metrics: SegmentationMetrics | None
    confusion: Tensor | None = field(compare=False)
    costs: CostStatistics
    mean_gates: tuple[float, ...] | None
    images: tuple[ImageRecord, ...]
    skipped: tuple[SkippedSample, ...] = ()
    official: OfficialScores | None = None

    @property
    def num_images(self) -> int:
        return len(self.images)

    @property
    def seconds_per_image(self) -> float:
        """The model's own wall time, without loading and scoring; the median over the images."""
        return median_seconds([image.costs for image in self.images])
