"""Machine-readable evaluation results in full precision: values of results.json and CSV files."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from typing import Any

from torch import Tensor

from dl_lib.evaluation.report.latency import latency_as_dict
from dl_lib.evaluation.report.routes import lattice_as_dict, routes_as_dict
from dl_lib.evaluation.report.tables import COST_LABELS, mean_scores
from dl_lib.evaluation.report.warnings import result_warnings
from dl_lib.evaluation.scores.budget import BudgetSummary
from dl_lib.evaluation.scores.image_properties import IMAGE_PROPERTIES
from dl_lib.evaluation.scores.metrics import ClassScore, SegmentationMetrics
from dl_lib.evaluation.scores.result import EvaluationResult, ImageRecord, OfficialScores
from dl_lib.modeling.costs.costs import MADDS_PER_GFLOP
from dl_lib.modeling.costs.table import NetworkCosts
from dl_lib.modeling.dynamic.route import Route
from dl_lib.utils.escaping import csv_text

__all__ = ["IMAGE_COLUMNS", "UNITS", "confusion_as_csv", "images_as_csv", "result_as_dict"]

UNITS = {
    "mIoU, fwIoU, mACC, pACC, mBIoU, IoU, accuracy, boundary_IoU": "ratio in [0, 1]; null: the class is not in the "
    "ground truth",
    "absent_classes_rule": "exclude: absent classes are excluded from all means; zero_if_predicted: those that are "
    "predicted have an IoU of 0 in the mIoU",
    "costs_gflops, budget_gflops": "GFLOPs (1e9 multiply-adds) per image, summed over all passes",
    "seconds_per_image": "model only, median over the images",
    "latency_ms": "milliseconds per image that the table of MODEL.BUDGET.LATENCY_TABLE applies to (images); measured: "
    "model only; median_error: ratio; differences: conditions of this evaluation unlike those of the table",
    "mean_gates": "mean gate value of each edge over the images, in [0, 1]",
    "lattice": "GFLOPs of each part, and shape (channels, height, width) of the input of each cell or output, for one "
    "image of input_size (height, width), the padded size of the first image",
    "routes": "an edge is open for an image if its gate value is above 0; a route is the set of an image's open edges; "
    "ratios in [0, 1] of the images; real_gflops: GFLOPs per image; cost_correlations: Spearman's rank correlation of "
    "the real cost per pixel with properties of the images, null if it is undefined; images: those with the property",
    "parameters": "number of learnable parameters",
}
IMAGE_COLUMNS = {
    "image_id": "unique within the dataset; a text that spreadsheets would run as a formula has a leading '",
    "file_name": "image file; likewise",
    "input_height": "pixels, image size in the first pass",
    "input_width": "pixels, image size in the first pass",
    "passes": "number of forward passes",
    "mIoU": "ratio in [0, 1], mean over the classes in the ground truth of this image; empty without labelled pixels",
    "pACC": "ratio in [0, 1] of labelled pixels",
    "expected_gflops": "GFLOPs (1e9 multiply-adds), summed over all passes",
    "real_gflops": "GFLOPs (1e9 multiply-adds), summed over all passes",
    "real_complete_gflops": "GFLOPs (1e9 multiply-adds), summed over all passes",
    "executed_gflops": "GFLOPs (1e9 multiply-adds), summed over all passes",
    "seconds": "wall time of the model",
    "predicted_ms": "latency by MODEL.BUDGET.LATENCY_TABLE; empty where it does not apply",
    "route": "number of the route, 1 is the most frequent one; empty without gates",
    "objects": "number of objects in the label, as the following columns empty without gates or labelled pixels",
    "object_scale_px": "pixels, median over the objects of the square root of the area; empty without objects",
    "foreground_ratio": "ratio in [0, 1] of labelled pixels; empty without a class named background",
    "classes": "number of classes in the label other than background",
}


def result_as_dict(
    result: EvaluationResult,
    *,
    target: BudgetSummary | None = None,
    route: Route | None = None,
    costs: NetworkCosts | None = None,
) -> dict[str, Any]:
    """Return the entry of a dataset in results.json, as plain values.

    Scores require ground truth; `official` is present if official scores were requested.

    Args:
        result: Result on the dataset.
        target: Costs and target of the budget; adds `budget_gflops`.
        route: Route of a routed network; adds the gates by edge and `routes` if it has gates.
        costs: Cost tables of a network with gates; adds `lattice` for an image of the size of the first one.
    """
    values: dict[str, Any] = {} if result.metrics is None else _scores(result.metrics)
    if result.official is not None:
        values["official"] = _official(result.official)
    statistics = {"avg": result.costs.average, "max": result.costs.maximum, "min": result.costs.minimum}
    values |= {
        "images": result.num_images,
        "warnings": list(result_warnings(result, route=route)),
        "skipped": [{"sample": sample.index, "reason": sample.reason} for sample in result.skipped],
        "seconds_per_image": result.seconds_per_image,
        "costs_gflops": {
            kind: {name: getattr(costs, kind) / MADDS_PER_GFLOP for name, costs in statistics.items()}
            for kind in COST_LABELS
        },
    }
    if target is not None:
        values["budget_gflops"] = {
            "cost": target.cost,
            "avg": target.madds / MADDS_PER_GFLOP,
            "target": target.target_madds / MADDS_PER_GFLOP,
            "all_open": target.full_madds / MADDS_PER_GFLOP,
            "over_target": target.ratio_to_target,
        }
    if result.latency is not None:
        values["latency_ms"] = latency_as_dict(result.latency)
    if result.mean_gates is not None and route is not None:
        values["mean_gates"] = dict(zip(map(str, route.lattice.edges), result.mean_gates, strict=True))
        if costs is not None:
            values["lattice"] = lattice_as_dict(costs, size=result.images[0].input_sizes[0])
        if result.reported_routes is not None:
            values["routes"] = routes_as_dict(result, routes=result.reported_routes, lattice=route.lattice)
    return values


def images_as_csv(result: EvaluationResult) -> str:
    """Return CSV text with one row per image and the columns `IMAGE_COLUMNS`."""
    routes = [None] * result.num_images if result.routes is None else result.routes.numbers
    predicted = [None] * result.num_images if result.latency is None else result.latency.predicted_ms
    return _csv([list(IMAGE_COLUMNS), *map(_image_row, result.images, routes, predicted)])


def confusion_as_csv(counts: Tensor, *, class_names: Sequence[str]) -> str:
    """Return CSV text of a confusion matrix with class names; rows are true, columns predicted classes."""
    rows = [[name, *row] for name, row in zip(class_names, counts.tolist(), strict=True)]
    return _csv([["true class / predicted class", *class_names], *rows])


def _scores(metrics: SegmentationMetrics) -> dict[str, Any]:
    return {
        **mean_scores(metrics),
        "labelled_pixels": metrics.pixels,
        "classes": {score.name: _class(score, metrics) for score in metrics.classes},
        "absent_classes": list(metrics.absent),
        "absent_classes_rule": metrics.absent_rule,
    }


def _class(score: ClassScore, metrics: SegmentationMetrics) -> dict[str, float | None]:
    values = {"IoU": score.iou, "accuracy": score.accuracy}
    return values if metrics.mean_boundary_iou is None else {**values, "boundary_IoU": score.boundary_iou}


def _official(scores: OfficialScores) -> dict[str, Any]:
    return {
        "source": scores.source,
        "mean_class_IoU": scores.mean_class_iou,
        "mean_category_IoU": scores.mean_category_iou,
        "class_IoU": dict(scores.class_iou),
        "category_IoU": dict(scores.category_iou),
    }


def _image_row(image: ImageRecord, route: int | None, predicted_ms: float | None) -> list[Any]:
    scores, costs = image.scores, image.costs
    return [
        *(image.image_id, image.file_name, *image.input_sizes[0], len(image.input_sizes)),
        *(("", "") if scores is None else (scores.mean_iou, scores.pixel_accuracy)),
        *(getattr(costs, kind) / MADDS_PER_GFLOP for kind in COST_LABELS),
        image.seconds,
        predicted_ms,
        route,
        *(getattr(image.properties, name, None) for name in IMAGE_PROPERTIES),
    ]


def _csv(rows: Iterable[Sequence[Any]]) -> str:
    file = io.StringIO()
    escaped = ([csv_text(cell) if isinstance(cell, str) else cell for cell in row] for row in rows)
    csv.writer(file, lineterminator="\n").writerows(escaped)
    return file.getvalue()
