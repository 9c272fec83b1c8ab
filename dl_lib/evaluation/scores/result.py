"""Result of an evaluation: records of all images, metrics and statistics of the costs in multiply-adds per image."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from statistics import median

from torch import Tensor

from dl_lib.data.sample_loader import SkippedSample
from dl_lib.evaluation.scores.image_properties import ImageProperties, RankCorrelation, property_correlations
from dl_lib.evaluation.scores.latency import LatencySummary
from dl_lib.evaluation.scores.metrics import ImageScores, SegmentationMetrics
from dl_lib.evaluation.scores.report_data import ReportData
from dl_lib.evaluation.scores.routes import MIN_IMAGES, RouteStatistics, route_statistics
from dl_lib.modeling.costs.costs import Costs

__all__ = ["CostStatistics", "EvaluationResult", "ImageRecord", "OfficialScores", "summarize_costs"]


@dataclass(frozen=True)
class ImageRecord:
    """Record of one image: attributes of its `Prediction`, its scores and its properties.

    Scores are None without labelled pixels, properties also without gates.
    """

    image_id: str
    file_name: str
    input_sizes: tuple[tuple[int, int], ...]
    costs: Costs[float]
    seconds: float
    scores: ImageScores | None
    properties: ImageProperties | None = None

    @property
    def real_madds_per_pixel(self) -> float:
        """Real cost per pixel of the input, comparable between images of different sizes."""
        return self.costs.real / sum(height * width for height, width in self.input_sizes)


@dataclass(frozen=True)
class CostStatistics:
    """Average, maximum and minimum cost per image under each convention, in multiply-adds."""

    average: Costs[float]
    maximum: Costs[float]
    minimum: Costs[float]


def summarize_costs(images: Sequence[Costs[float]]) -> CostStatistics:
    """Compute the statistics of all images; the result is bitwise independent of their order.

    Raises:
        ValueError: If there is no image.
    """
    if not images:
        raise ValueError("costs of at least one image are required. Received: images=[]")

    def reduce(function: Callable[[Sequence[float]], float]) -> Costs[float]:
        return Costs(
            **{field.name: function([getattr(image, field.name) for image in images]) for field in fields(Costs)}
        )

    return CostStatistics(
        average=reduce(lambda madds: math.fsum(madds) / len(madds)), maximum=reduce(max), minimum=reduce(min)
    )


@dataclass(frozen=True)
class OfficialScores:
    """Scores of a benchmark's official script, as ratios in [0, 1]; None where the script gives no score.

    Attributes:
        source: Name and version of the script's package.
        mean_class_iou: Mean of `class_iou`.
        mean_category_iou: Mean of `category_iou`.
        class_iou: Class name -> IoU.
        category_iou: Category name -> IoU.
    """

    source: str
    mean_class_iou: float | None
    mean_category_iou: float | None
    class_iou: Mapping[str, float | None]
    category_iou: Mapping[str, float | None]


@dataclass(frozen=True)
class EvaluationResult:
    """Result of a model on a dataset.

    Attributes:
        dataset_name: Registered name of the dataset.
        class_names: Names of its classes.
        metrics: Scores; None without ground truth.
        confusion: Confusion matrix, int64 (classes, classes), [true, predicted]; None without ground truth.
        costs: Statistics of the cost per image.
        gates: Gate values of each image, float64 (images, edges), columns in the order of the lattice's edges; None
            without gates.
        images: Record of each image, in the order of the dataset.
        skipped: Samples that could not be used; they are not part of any score.
        official: Scores of the benchmark's official script, if requested.
        latency: Predicted and measured latency of the images, if there is a latency table.
        report_data: Images and counts for a report, if requested.
    """

    dataset_name: str
    class_names: tuple[str, ...]
    metrics: SegmentationMetrics | None
    confusion: Tensor | None = field(compare=False)
    costs: CostStatistics
    gates: Tensor | None = field(compare=False)
    images: tuple[ImageRecord, ...]
    skipped: tuple[SkippedSample, ...] = ()
    official: OfficialScores | None = None
    latency: LatencySummary | None = None
    report_data: ReportData | None = field(default=None, compare=False)

    @property
    def num_images(self) -> int:
        return len(self.images)

    @property
    def seconds_per_image(self) -> float:
        """Median wall time of the model per image; the mean would include the warmup of the first images."""
        return median(image.seconds for image in self.images)

    @property
    def mean_gates(self) -> tuple[float, ...] | None:
        """Mean gate value of every edge over the images; None without gates."""
        return None if self.gates is None else tuple(self.gates.mean(dim=0).tolist())

    @cached_property
    def routes(self) -> RouteStatistics | None:
        """Routes of the images; None without gates."""
        if self.gates is None:
            return None
        return route_statistics(self.gates.numpy(), real_madds=[image.costs.real for image in self.images])

    @property
    def reported_routes(self) -> RouteStatistics | None:
        """Routes of the images, if there are enough images (`MIN_IMAGES`) to report their statistics."""
        return self.routes if self.num_images >= MIN_IMAGES else None

    @cached_property
    def cost_correlations(self) -> dict[str, RankCorrelation] | None:
        """Rank correlation of the real cost per pixel with properties of the images, see `property_correlations`.

        None without gates, without ground truth, or with too few images (`MIN_IMAGES`). Images that all take one route
        have a constant cost: their costs per pixel differ only by the padding to multiples of the coarsest stride.
        """
        if self.reported_routes is None or self.metrics is None:
            return None
        has_one_route = len(self.reported_routes.routes) == 1
        costs = [1.0 if has_one_route else image.real_madds_per_pixel for image in self.images]
        return property_correlations(costs, [image.properties for image in self.images], min_images=MIN_IMAGES)
