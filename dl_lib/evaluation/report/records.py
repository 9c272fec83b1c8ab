"""Results for machines: plain values for results.json, and CSV files. Every figure is written in full."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from typing import Any

from torch import Tensor

from dl_lib.evaluation.report.tables import COST_NAMES, mean_scores
from dl_lib.evaluation.scores.budget import BudgetTarget
from dl_lib.evaluation.scores.costs import MFLOPS_PER_GFLOP
from dl_lib.evaluation.scores.metrics import ClassScore, SegmentationMetrics
from dl_lib.evaluation.scores.result import EvaluationResult, ImageRecord, OfficialScores
from dl_lib.modeling.dynamic.lattice import Lattice

__all__ = ["IMAGE_COLUMNS", "UNITS", "confusion_as_csv", "images_as_csv", "result_as_dict"]

UNITS = {
    "mIoU, fwIoU, mACC, pACC, mBIoU, IoU, accuracy, boundary_IoU": "share in [0, 1]; null: the ground truth does not "
    "hold the class",
    "absent_classes_rule": "exclude: absent classes are in no mean; zero_if_predicted: those that are predicted are "
    "in the mIoU as 0",
    "costs_gflops, budget_gflops": "GFLOPs per image, 1e9 multiply-adds, of all passes over it",
    "seconds_per_image": "the model alone, median over the images",
    "mean_gates": "mean gate value of each edge over the images, in [0, 1]",
    "parameters": "values that the model learns",
}
IMAGE_COLUMNS = {
    "image_id": "unique within the data set",
    "file_name": "of the image",
    "input_height": "pixels of the image as the model got it, in the first pass",
    "input_width": "likewise",
    "passes": "of the network over the image",
    "mIoU": "share in [0, 1]: mean over the classes in the ground truth of this image; empty without labelled pixels",
    "pACC": "share in [0, 1]: of its labelled pixels",
    "expected_gflops": "1e9 multiply-adds, of all passes",
    "real_gflops": "likewise",
    "real_complete_gflops": "likewise",
    "executed_gflops": "likewise",
    "seconds": "that the model took",
}


def result_as_dict(
    result: EvaluationResult, *, target: BudgetTarget | None = None, lattice: Lattice | None = None
) -> dict[str, Any]:
    """One result in plain values, as results.json holds it under the data set's name.

    Scores are only there for data sets with ground truth, `official` only where these were asked for.
    """
    values: dict[str, Any] = {} if result.metrics is None else _scores(result.metrics)
    if result.official is not None:
        values["official"] = _official(result.official)
    values |= {
        "images": result.num_images,
        "skipped": [{"sample": sample.index, "reason": sample.reason} for sample in result.skipped],
        "seconds_per_image": result.seconds_per_image,
        "costs_gflops": {
            kind: {"avg": spread.average, "max": spread.maximum, "min": spread.minimum}
            for kind in COST_NAMES
            for spread in [getattr(result.costs, kind)]
        },
    }
    if target is not None:
        values["budget_gflops"] = {
            "target": target.expected_gflops,
            "whole_lattice": target.lattice_gflops,
            "expected_over_target": target.overrun(result.costs.expected.average),
        }
    if result.mean_gates is not None and lattice is not None:
        values["mean_gates"] = dict(zip(map(str, lattice.edges), result.mean_gates, strict=True))
    return values


def images_as_csv(images: Iterable[ImageRecord]) -> str:
    """A line for each image, with the columns of `IMAGE_COLUMNS`."""
    return _csv([list(IMAGE_COLUMNS), *map(_image_row, images)])


def confusion_as_csv(counts: Tensor, *, class_names: Sequence[str]) -> str:
    """The pixels of each true class (a line) that were taken for each class (a column), between the classes' names."""
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


def _image_row(image: ImageRecord) -> list[Any]:
    scores, costs = image.scores, image.costs
    return [
        *(image.image_id, image.file_name, *image.input_sizes[0], len(image.input_sizes)),
        *(("", "") if scores is None else (scores.mean_iou, scores.pixel_accuracy)),
        *(getattr(costs, kind) / MFLOPS_PER_GFLOP for kind in COST_NAMES),
        costs.seconds,
    ]


def _csv(rows: Iterable[Sequence[Any]]) -> str:
    file = io.StringIO()
    csv.writer(file, lineterminator="\n").writerows(rows)
    return file.getvalue()
