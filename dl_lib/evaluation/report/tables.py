"""Results as tables for people, in the terminal and as Markdown.

Scores are in percent with two decimals, as papers have them, GFLOPs with four (six where a network needs less than
one).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tabulate import tabulate

from dl_lib.evaluation.scores.budget import BudgetTarget
from dl_lib.evaluation.scores.costs import Spread
from dl_lib.evaluation.scores.metrics import SegmentationMetrics
from dl_lib.evaluation.scores.result import EvaluationResult, OfficialScores

__all__ = ["COST_NAMES", "format_markdown", "format_text", "mean_scores"]

_ABSENT = "absent"  # in the place of a score
COST_NAMES = {"expected": "expected", "real": "real", "real_complete": "real complete", "executed": "executed"}
_COST_LEGEND = (
    "GFLOPs are 1e9 multiply-adds. Expected: cells and transitions, weighted by their gates; real: what has to run, as "
    "the paper counts it; real complete: what has to run, everything counted; executed: what did run."
)


def format_text(result: EvaluationResult, *, target: BudgetTarget | None = None) -> str:
    """The tables of one data set, for a terminal.

    Args:
        result: what is reported.
        target: what the budget asks for, if there is one.
    """
    return "\n\n".join((_headline(result), *_tables(result, target=target, style="simple"), *_remarks(result, target)))


def format_markdown(
    results: Mapping[str, EvaluationResult],
    *,
    targets: Mapping[str, BudgetTarget | None],
    pictures: Mapping[str, Mapping[str, str]],
) -> str:
    """The tables of all data sets as a Markdown document.

    Args:
        results: by the data sets' names.
        targets: what the budget asks for on each of them, if there is one.
        pictures: file names of each data set's pictures, by what they show.
    """
    parts = ["# Evaluation"]
    for name, result in results.items():
        target = targets.get(name)
        parts += [f"## {name}", _headline(result), *_tables(result, target=target, style="github")]
        parts += _remarks(result, target)
        parts += [f"![{shown} on {name}]({file})" for shown, file in pictures[name].items()]
    return "\n\n".join(parts) + "\n"


def mean_scores(metrics: SegmentationMetrics) -> dict[str, float]:
    """The means of a data set by their usual names, as shares."""
    scores = {
        "mIoU": metrics.mean_iou,
        "fwIoU": metrics.frequency_weighted_iou,
        "mACC": metrics.mean_accuracy,
        "pACC": metrics.pixel_accuracy,
    }
    return scores if metrics.mean_boundary_iou is None else {**scores, "mBIoU": metrics.mean_boundary_iou}


def _headline(result: EvaluationResult) -> str:
    truth = f"{result.metrics.pixels:,} labelled pixels" if result.metrics else "no ground truth, costs only"
    return (
        f"{result.dataset_name}: {result.num_images} images, {truth}, "
        f"{result.seconds_per_image:.4f} s per image (the model alone, median)"
    )


def _tables(result: EvaluationResult, *, target: BudgetTarget | None, style: str) -> list[str]:
    """Of scores, of costs and of the budget; every cell is text, so that tabulate changes no digit."""
    decimals = _decimals(result)
    costs = [[label, *_gflops(getattr(result.costs, kind), decimals)] for kind, label in COST_NAMES.items()]
    tables = [] if result.metrics is None else _score_tables(result.metrics, official=result.official, style=style)
    tables.append(_table(costs, headers=["GFLOPs per image", "avg", "max", "min"], style=style))
    if target is not None:
        budget = {
            "expected, on average": result.costs.expected.average,
            "target": target.expected_gflops,
            "whole lattice, all gates open": target.lattice_gflops,
        }
        rows = [
            [name, f"{value:.{decimals}f}", f"{value / target.lattice_gflops:.3f}"] for name, value in budget.items()
        ]
        tables.append(_table(rows, headers=["budget", "GFLOPs per image", "share of the lattice"], style=style))
    return tables


def _score_tables(metrics: SegmentationMetrics, *, official: OfficialScores | None, style: str) -> list[str]:
    """Of classes and of means; beside ours, what the official script says."""
    columns = {
        "class": [score.name for score in metrics.classes],
        "IoU (%)": [_percent(score.iou) for score in metrics.classes],
        "accuracy (%)": [_percent(score.accuracy) for score in metrics.classes],
    }
    if metrics.mean_boundary_iou is not None:
        columns["boundary IoU (%)"] = [_percent(score.boundary_iou) for score in metrics.classes]
    if official is not None:
        columns["official IoU (%)"] = [_percent(official.class_iou[score.name]) for score in metrics.classes]
    scores = mean_scores(metrics)
    tables = [
        _table(list(zip(*columns.values(), strict=True)), headers=list(columns), style=style),
        _table([list(map(_percent, scores.values()))], headers=[f"{name} (%)" for name in scores], style=style),
    ]
    if official is not None:
        rows = [[name, _percent(iou)] for name, iou in official.category_iou.items()]
        rows += [["mean of categories", _percent(official.mean_category_iou)]]
        rows += [["mean of classes", _percent(official.mean_class_iou)]]
        tables.append(_table(rows, headers=["official", "IoU (%)"], style=style))
    return tables


def _remarks(result: EvaluationResult, target: BudgetTarget | None) -> list[str]:
    """What the tables alone do not say."""
    remarks = [_COST_LEGEND]
    passes = max(len(image.input_sizes) for image in result.images)
    if passes > 1:
        remarks.append(f"The network ran up to {passes} times for each image; costs are those of all passes together.")
    if result.skipped:
        remarks.append(
            f"{len(result.skipped)} samples could not be used and are in no figure (the log and results.json say why)."
        )
    if result.metrics is not None:
        remarks += _remarks_on_absent(result.metrics)
        if result.metrics.mean_boundary_iou is not None:
            remarks.append("Boundary IoU (mBIoU: its mean) is that of arXiv 2103.16562, within 2 % of the diagonal.")
    if result.official is not None:
        remarks.append(
            f"Official: {result.official.source}, of the label PNGs that were written. It counts a class that is "
            "predicted and not in the ground truth as IoU 0 (TEST.ABSENT_CLASSES: zero_if_predicted)."
        )
    if target is not None:
        overrun = target.overrun(result.costs.expected.average)
        if overrun is not None:
            remarks.append(
                f"Budget: the expected cost is {overrun:.3f} times its target ({100 * (overrun - 1):+.1f} %)."
            )
    return remarks


def _remarks_on_absent(metrics: SegmentationMetrics) -> list[str]:
    counts_as_zero = metrics.absent_rule == "zero_if_predicted"
    left_out = [name for name in metrics.absent if not (counts_as_zero and name in metrics.predicted_absent)]
    remarks = []
    if left_out:
        remarks.append(f"Not in the ground truth, and therefore in none of the means: {', '.join(left_out)}.")
    if metrics.predicted_absent:
        names = ", ".join(metrics.predicted_absent)
        remarks.append(
            f"Predicted without being in the ground truth, and in the mIoU as 0: {names}."
            if counts_as_zero
            else f"Of these, predicted all the same: {names}. TEST.ABSENT_CLASSES: zero_if_predicted would have them "
            "in the mIoU as 0."
        )
    return remarks


def _table(rows: Sequence[Sequence[str]], *, headers: Sequence[str], style: str) -> str:
    align = ["left", *["right"] * (len(headers) - 1)] if len(rows) > 1 else ["right"] * len(headers)
    return tabulate(rows, headers=headers, tablefmt=style, colalign=align, disable_numparse=True)


def _percent(share: float | None) -> str:
    return _ABSENT if share is None else f"{100 * share:.2f}"


def _gflops(spread: Spread, decimals: int) -> list[str]:
    return [f"{value:.{decimals}f}" for value in (spread.average, spread.maximum, spread.minimum)]


def _decimals(result: EvaluationResult) -> int:
    return 4 if result.costs.real_complete.maximum >= 1 else 6
