"""Results as tables: in the terminal, as Markdown and as JSON, beside a picture of the mean route.

Tables for people give scores in percent with two decimals, as papers do, and GFLOPs with four (six where a network
needs less than one); results.json gives scores as shares in [0, 1] and every figure in full.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tabulate import tabulate

from dl_lib.evaluation.budget import BudgetTarget
from dl_lib.evaluation.costs import Spread
from dl_lib.evaluation.drawing import draw_route, encode_png
from dl_lib.evaluation.evaluator import EvaluationResult
from dl_lib.modeling.dynamic.lattice import Lattice
from dl_lib.utils.files import write_atomically

__all__ = ["format_markdown", "format_text", "result_as_dict", "write_report"]

_ABSENT = "absent"  # in the place of a score
_COST_NAMES = {"expected": "expected", "real": "real", "real_complete": "real complete", "executed": "executed"}
_COST_LEGEND = (
    "GFLOPs are 1e9 multiply-adds. Expected: cells and transitions, weighted by their gates; real: what has to run, as "
    "the paper counts it; real complete: what has to run, everything counted; executed: what did run."
)
_UNITS = {
    "mIoU, fwIoU, mACC, pACC, IoU, accuracy": "share in [0, 1]; null: the ground truth does not hold the class",
    "costs_gflops, budget_gflops": "GFLOPs per image, 1e9 multiply-adds",
    "seconds_per_image": "the model alone, median over the images",
    "mean_gates": "mean gate value of each edge over the images, in [0, 1]",
}


# ---------------------------------------------------------------------------------------------------- for people


def format_text(result: EvaluationResult, *, target: BudgetTarget | None = None) -> str:
    """The tables of one data set, for a terminal.

    Args:
        result: what is reported.
        target: what the budget asks for, if there is one.
    """
    return "\n\n".join((_headline(result), *_tables(result, target=target, style="simple"), *_remarks(result, target)))


def format_markdown(
    results: Mapping[str, EvaluationResult], *, targets: Mapping[str, BudgetTarget | None], pictures: Mapping[str, str]
) -> str:
    """The tables of all data sets as a Markdown document.

    Args:
        results: by the data sets' names.
        targets: what the budget asks for on each of them, if there is one.
        pictures: file names of the pictures of the mean routes; data sets without one are left out.
    """
    parts = ["# Evaluation"]
    for name, result in results.items():
        target = targets.get(name)
        parts += [f"## {name}", _headline(result), *_tables(result, target=target, style="github")]
        parts += _remarks(result, target)
        if name in pictures:
            parts.append(f"![Mean route on {name}]({pictures[name]})")
    return "\n\n".join(parts) + "\n"


def _headline(result: EvaluationResult) -> str:
    return (
        f"{result.dataset_name}: {result.num_images} images, {result.metrics.pixels:,} labelled pixels, "
        f"{result.seconds_per_image:.4f} s per image (the model alone, median)"
    )


def _tables(result: EvaluationResult, *, target: BudgetTarget | None, style: str) -> list[str]:
    """Of classes, of means, of costs and of the budget; every cell is text, so that tabulate changes no digit."""
    metrics = result.metrics
    classes = [[score.name, _percent(score.iou), _percent(score.accuracy)] for score in metrics.classes]
    means = [_percent(value) for value in _means(result).values()]
    decimals = _decimals(result)
    costs = [[label, *_gflops(getattr(result.costs, kind), decimals)] for kind, label in _COST_NAMES.items()]
    tables = [
        _table(classes, headers=["class", "IoU (%)", "accuracy (%)"], style=style),
        _table([means], headers=[f"{name} (%)" for name in _means(result)], style=style),
        _table(costs, headers=["GFLOPs per image", "avg", "max", "min"], style=style),
    ]
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


def _remarks(result: EvaluationResult, target: BudgetTarget | None) -> list[str]:
    """What the tables alone do not say."""
    remarks = [_COST_LEGEND]
    if result.metrics.absent:
        names = ", ".join(result.metrics.absent)
        remarks.append(f"Not in the ground truth, and therefore in none of the means: {names}.")
    if target is not None:
        overrun = target.overrun(result.costs.expected.average)
        if overrun is not None:
            remarks.append(
                f"Budget: the expected cost is {overrun:.3f} times its target ({100 * (overrun - 1):+.1f} %)."
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


def _means(result: EvaluationResult) -> dict[str, float]:
    metrics = result.metrics
    return {
        "mIoU": metrics.mean_iou,
        "fwIoU": metrics.frequency_weighted_iou,
        "mACC": metrics.mean_accuracy,
        "pACC": metrics.pixel_accuracy,
    }


# ---------------------------------------------------------------------------------------------------- for machines


def result_as_dict(
    result: EvaluationResult, *, target: BudgetTarget | None = None, lattice: Lattice | None = None
) -> dict[str, Any]:
    """One result in plain values, as results.json holds it under the data set's name."""
    values: dict[str, Any] = {
        **_means(result),
        "images": result.num_images,
        "labelled_pixels": result.metrics.pixels,
        "seconds_per_image": result.seconds_per_image,
        "classes": {score.name: {"IoU": score.iou, "accuracy": score.accuracy} for score in result.metrics.classes},
        "absent_classes": list(result.metrics.absent),
        "costs_gflops": {
            kind: {"avg": spread.average, "max": spread.maximum, "min": spread.minimum}
            for kind in _COST_NAMES
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


def write_report(
    results: Mapping[str, EvaluationResult],
    *,
    output_dir: Path,
    targets: Mapping[str, BudgetTarget | None],
    lattice: Lattice | None,
) -> tuple[Path, ...]:
    """Writes results.json, results.md and, for networks with gates, the mean route of each data set.

    The picture is route.png, or route_<data set>.png where there are several. A file is either the old one or the
    whole new one, never a part.

    Args:
        results: by the data sets' names.
        output_dir: the run's folder; made where it does not exist.
        targets: what the budget asks for on each data set, if there is one.
        lattice: whose edges the gates belong to; None for networks without gates.

    Returns:
        The files that were written.
    """
    files: dict[str, bytes] = {}
    pictures = {}
    for name, result in results.items():
        if result.mean_gates is not None and lattice is not None:
            pictures[name] = "route.png" if len(results) == 1 else f"route_{name}.png"
            picture = draw_route(lattice, gates=result.mean_gates, title=f"Mean route on {name}")
            files[pictures[name]] = encode_png(picture)
    data = {
        "units": _UNITS,
        "datasets": {
            name: result_as_dict(result, target=targets.get(name), lattice=lattice) for name, result in results.items()
        },
    }
    files["results.md"] = format_markdown(results, targets=targets, pictures=pictures).encode()
    files["results.json"] = (json.dumps(data, indent=2, allow_nan=False) + "\n").encode()
    for name, content in files.items():
        write_atomically(output_dir / name, content)
    return tuple(output_dir / name for name in files)
