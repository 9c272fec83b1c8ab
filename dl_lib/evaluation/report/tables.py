"""Tables of evaluation results for the terminal and Markdown.

Scores are in percent with two decimals; costs are in GFLOPs with four decimals (six for networks below 1 GFLOP).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from urllib.parse import quote

from dl_lib.evaluation.report.formatting import format_gflops, format_table, gflops_decimals
from dl_lib.evaluation.report.latency import latency_remarks, latency_tables
from dl_lib.evaluation.report.routes import describe_route, route_remarks, route_tables
from dl_lib.evaluation.report.warnings import result_warnings
from dl_lib.evaluation.scores.budget import BudgetSummary
from dl_lib.evaluation.scores.metrics import SegmentationMetrics
from dl_lib.evaluation.scores.result import EvaluationResult, OfficialScores
from dl_lib.modeling.dynamic.lattice import Lattice
from dl_lib.modeling.dynamic.route import Route
from dl_lib.utils.escaping import TABLE_ESCAPES, markdown_text

__all__ = [
    "COST_LABELS",
    "COST_LEGEND",
    "MEAN_BOUNDARY_IOU",
    "MEAN_SCORES",
    "format_markdown",
    "format_text",
    "mean_scores",
]

MEAN_SCORES = {
    "mIoU": "mean_iou",
    "fwIoU": "frequency_weighted_iou",
    "mACC": "mean_accuracy",
    "pACC": "pixel_accuracy",
}  # name -> attribute of SegmentationMetrics
MEAN_BOUNDARY_IOU = "mBIoU"  # with TEST.BOUNDARY_IOU
COST_LABELS = {"expected": "expected", "real": "real", "real_complete": "real complete", "executed": "executed"}
_ABSENT = "absent"  # instead of a score
COST_LEGEND = (
    "GFLOPs: 1e9 multiply-adds. Expected: cells and transitions weighted by their gate values; real: modules that the "
    "routing requires, counted as in the paper (without operation and gate of the first cell, with the gates of closed "
    "cells); real complete: all modules that the routing requires; executed: modules that were observed to run."
)


def format_text(
    result: EvaluationResult, *, target: BudgetSummary | None = None, lattice: Lattice | None = None
) -> str:
    """Format the tables of one dataset for the terminal; see `format_markdown` for the optional ones."""
    return "\n\n".join(_parts(result, target=target, lattice=lattice, style="simple"))


def format_markdown(
    results: Mapping[str, EvaluationResult],
    *,
    targets: Mapping[str, BudgetSummary | None],
    route: Route | None,
    figures: Mapping[str, Mapping[str, str]],
) -> str:
    """Format the tables of all datasets as a Markdown document.

    Args:
        results: Results by dataset name.
        targets: Budget target of each dataset, if there is one.
        route: Route of a routed network; None for static networks.
        figures: File names of each dataset's figures, by title, to link to.
    """
    lattice = None if route is None else route.lattice
    parts = ["# Evaluation", *([] if route is None or route.is_whole else [describe_route(route)])]
    for name, result in results.items():
        title = markdown_text(name)
        parts += [f"## {title}", *_parts(result, target=targets.get(name), lattice=lattice, style="github")]
        parts += [f"**Warning:** {markdown_text(sentence)}" for sentence in result_warnings(result, route=route)]
        parts += [f"![{kind} on {title}]({quote(file)})" for kind, file in figures[name].items()]
    return "\n\n".join(parts) + "\n"


def mean_scores(metrics: SegmentationMetrics) -> dict[str, float]:
    """Return the mean scores of a dataset under their usual names, as ratios."""
    scores = {name: getattr(metrics, attribute) for name, attribute in MEAN_SCORES.items()}
    return scores if metrics.mean_boundary_iou is None else {**scores, MEAN_BOUNDARY_IOU: metrics.mean_boundary_iou}


def _parts(result: EvaluationResult, *, target: BudgetSummary | None, lattice: Lattice | None, style: str) -> list[str]:
    tables = _tables(result, target=target, style=style) + route_tables(result, lattice=lattice, style=style)
    return [_headline(result, style=style), *tables, *_remarks(result, target, style=style)]


def _headline(result: EvaluationResult, *, style: str) -> str:
    truth = f"{result.metrics.pixels:,} labelled pixels" if result.metrics else "no ground truth, costs only"
    return (
        f"{TABLE_ESCAPES[style](result.dataset_name)}: {result.num_images} images, {truth}, "
        f"{result.seconds_per_image:.4f} s per image (model only, median)"
    )


def _tables(result: EvaluationResult, *, target: BudgetSummary | None, style: str) -> list[str]:
    decimals = gflops_decimals(result)
    statistics = (result.costs.average, result.costs.maximum, result.costs.minimum)
    costs = [
        [label, *(format_gflops(getattr(values, kind), decimals) for values in statistics)]
        for kind, label in COST_LABELS.items()
    ]
    tables = [] if result.metrics is None else _score_tables(result.metrics, official=result.official, style=style)
    tables.append(format_table(costs, headers=["GFLOPs per image", "avg", "max", "min"], style=style))
    if target is not None:
        budget = {
            f"{target.cost}, average": target.madds,
            "target": target.target_madds,
            f"{target.full}, all gates open": target.full_madds,
        }
        rows = [
            [name, format_gflops(madds, decimals), f"{madds / target.full_madds:.3f}"] for name, madds in budget.items()
        ]
        headers = ["budget", "GFLOPs per image", f"ratio to {target.full}"]
        tables.append(format_table(rows, headers=headers, style=style))
    return tables + latency_tables(result.latency, style=style)


def _score_tables(metrics: SegmentationMetrics, *, official: OfficialScores | None, style: str) -> list[str]:
    columns = {
        "class": [TABLE_ESCAPES[style](score.name) for score in metrics.classes],
        "IoU (%)": [_percent(score.iou) for score in metrics.classes],
        "accuracy (%)": [_percent(score.accuracy) for score in metrics.classes],
    }
    if metrics.mean_boundary_iou is not None:
        columns["boundary IoU (%)"] = [_percent(score.boundary_iou) for score in metrics.classes]
    if official is not None:
        columns["official IoU (%)"] = [_percent(official.class_iou[score.name]) for score in metrics.classes]
    scores = mean_scores(metrics)
    tables = [
        format_table(list(zip(*columns.values(), strict=True)), headers=list(columns), style=style),
        format_table([list(map(_percent, scores.values()))], headers=[f"{name} (%)" for name in scores], style=style),
    ]
    if official is not None:
        rows = [[name, _percent(iou)] for name, iou in official.category_iou.items()]
        rows += [["mean of categories", _percent(official.mean_category_iou)]]
        rows += [["mean of classes", _percent(official.mean_class_iou)]]
        tables.append(format_table(rows, headers=["official", "IoU (%)"], style=style))
    return tables


def _remarks(result: EvaluationResult, target: BudgetSummary | None, *, style: str) -> list[str]:
    remarks = [COST_LEGEND]
    passes = max(len(image.input_sizes) for image in result.images)
    if passes > 1:
        remarks.append(f"Up to {passes} forward passes per image; costs are the sum over all passes.")
    if result.skipped:
        remarks.append(
            f"Skipped {len(result.skipped)} unusable samples, which are not part of any score (reasons in the log and "
            "results.json)."
        )
    if result.metrics is not None:
        remarks += _absent_class_remarks(result.metrics, escape=TABLE_ESCAPES[style])
        if result.metrics.mean_boundary_iou is not None:
            remarks.append("Boundary IoU (mean: mBIoU) as in arXiv 2103.16562, with 2 % of the image diagonal.")
    if result.official is not None:
        remarks.append(
            f"Official: {result.official.source} on the label PNGs written. It gives a class that is predicted but not "
            "in the ground truth an IoU of 0 (TEST.ABSENT_CLASSES: zero_if_predicted)."
        )
    if target is not None:
        ratio = target.ratio_to_target
        if ratio is not None:
            cost = target.cost.partition(",")[0]
            remarks.append(f"Budget: the {cost} cost is {ratio:.3f} times its target ({100 * (ratio - 1):+.1f} %).")
    return remarks + latency_remarks(result.latency) + route_remarks(result)


def _absent_class_remarks(metrics: SegmentationMetrics, *, escape: Callable[[str], str]) -> list[str]:
    counts_as_zero = metrics.absent_rule == "zero_if_predicted"
    excluded = [name for name in metrics.absent if not (counts_as_zero and name in metrics.predicted_absent)]
    remarks = []
    if excluded:
        remarks.append(f"Not in the ground truth, excluded from all means: {', '.join(map(escape, excluded))}.")
    if metrics.predicted_absent:
        names = ", ".join(map(escape, metrics.predicted_absent))
        remarks.append(
            f"Predicted but not in the ground truth, IoU of 0 in the mIoU: {names}."
            if counts_as_zero
            else f"Of these, predicted: {names}. With TEST.ABSENT_CLASSES: zero_if_predicted, their IoU would be 0 in "
            "the mIoU."
        )
    return remarks


def _percent(ratio: float | None) -> str:
    return _ABSENT if ratio is None else f"{100 * ratio:.2f}"
