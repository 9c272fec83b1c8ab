"""The files that an evaluation leaves in the run's folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from dl_lib.evaluation.report.canvas import Picture, encode_png
from dl_lib.evaluation.report.confusion_picture import draw_confusion
from dl_lib.evaluation.report.records import UNITS, confusion_as_csv, images_as_csv, result_as_dict
from dl_lib.evaluation.report.route_picture import draw_route
from dl_lib.evaluation.report.tables import format_markdown
from dl_lib.evaluation.scores.budget import BudgetTarget
from dl_lib.evaluation.scores.result import EvaluationResult
from dl_lib.modeling.dynamic.lattice import Lattice
from dl_lib.utils.files import write_atomically
from dl_lib.utils.run_files import (
    CONFUSION_STEM,
    PER_IMAGE_STEM,
    RESULTS_MARKDOWN_NAME,
    RESULTS_NAME,
    ROUTE_STEM,
)

__all__ = ["write_report"]

_ROUTE, _CONFUSION = "Mean route", "Confusion matrix"
_PICTURES = {_ROUTE: ROUTE_STEM, _CONFUSION: CONFUSION_STEM}  # beginnings of their files' names


def write_report(
    results: Mapping[str, EvaluationResult],
    *,
    output_dir: Path,
    targets: Mapping[str, BudgetTarget | None],
    lattice: Lattice | None,
    parameters: int,
) -> tuple[Path, ...]:
    """Writes results.json and results.md, and files for each data set.

    These are per_image.csv; confusion.csv and confusion.png, if there is ground truth; and, for networks with gates,
    the mean route as route.png. Where there are several data sets, their names have that of the data set at the end,
    as route_<data set>.png. A file is either the old one or the whole new one, never a part.

    Args:
        results: by the data sets' names.
        output_dir: the run's folder; made where it does not exist.
        targets: what the budget asks for on each data set, if there is one.
        lattice: whose edges the gates belong to; None for networks without gates.
        parameters: how many values the model learns.

    Returns:
        The files that were written.
    """
    files: dict[str, str | bytes] = {}
    pictures: dict[str, dict[str, str]] = {}
    for name, result in results.items():
        suffix = "" if len(results) == 1 else f"_{name}"
        files |= _tables_of_numbers(result, suffix=suffix)
        drawn = _draw(result, lattice=lattice)
        pictures[name] = {shown: f"{_PICTURES[shown]}{suffix}.png" for shown in drawn}
        files |= {pictures[name][shown]: encode_png(picture) for shown, picture in drawn.items()}
    data = {
        "units": UNITS,
        "parameters": parameters,
        "datasets": {
            name: result_as_dict(result, target=targets.get(name), lattice=lattice) for name, result in results.items()
        },
    }
    files[RESULTS_MARKDOWN_NAME] = format_markdown(results, targets=targets, figures=pictures)
    files[RESULTS_NAME] = json.dumps(data, indent=2, allow_nan=False) + "\n"
    for file, content in files.items():
        write_atomically(output_dir / file, content)
    return tuple(output_dir / file for file in files)


def _tables_of_numbers(result: EvaluationResult, *, suffix: str) -> dict[str, str]:
    files = {f"{PER_IMAGE_STEM}{suffix}.csv": images_as_csv(result.images)}
    if result.confusion is not None:
        files[f"{CONFUSION_STEM}{suffix}.csv"] = confusion_as_csv(result.confusion, class_names=result.class_names)
    return files


def _draw(result: EvaluationResult, *, lattice: Lattice | None) -> dict[str, Picture]:
    """Pictures by what they show."""
    pictures = {}
    if result.confusion is not None:
        title = f"{_CONFUSION} on {result.dataset_name}"
        pictures[_CONFUSION] = draw_confusion(result.confusion, class_names=result.class_names, title=title)
    if result.mean_gates is not None and lattice is not None:
        title = f"{_ROUTE} on {result.dataset_name}"
        pictures[_ROUTE] = draw_route(lattice, gates=result.mean_gates, title=title)
    return pictures
