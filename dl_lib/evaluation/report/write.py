"""Output files of an evaluation."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dl_lib.evaluation.report.gates_file import gates_as_npz
from dl_lib.evaluation.report.image_routes import ShownImage, draw_shown_images
from dl_lib.evaluation.report.records import UNITS, confusion_as_csv, images_as_csv, result_as_dict
from dl_lib.evaluation.report.report_file import report_data_as_npz
from dl_lib.evaluation.report.tables import format_markdown
from dl_lib.evaluation.scores.budget import BudgetSummary
from dl_lib.evaluation.scores.image_properties import IMAGE_PROPERTIES, RankCorrelation
from dl_lib.evaluation.scores.result import EvaluationResult
from dl_lib.modeling.costs.table import NetworkCosts
from dl_lib.modeling.dynamic.lattice import Lattice
from dl_lib.modeling.dynamic.route import Route
from dl_lib.utils.files import read_regular, write_atomically
from dl_lib.utils.names import is_safe_name
from dl_lib.utils.run_files import (
    CONFUSION_STEM,
    GATES_STEM,
    IMAGE_COSTS_STEM,
    IMAGE_ROUTES_STEM,
    MAX_RESULTS_BYTES,
    PER_IMAGE_STEM,
    REPORT_DATA_STEM,
    RESULTS_MARKDOWN_NAME,
    RESULTS_NAME,
    ROUTE_STEM,
    dataset_suffix,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["draw_mean_routing", "write_report"]

_MEAN_ROUTING = "Mean routing"
_FIGURE_STEMS = {  # by title
    _MEAN_ROUTING: ROUTE_STEM,
    "Fixed route": ROUTE_STEM,
    "Routes of some images": IMAGE_ROUTES_STEM,
    "Real cost and properties of the images": IMAGE_COSTS_STEM,
    "Confusion matrix": CONFUSION_STEM,
}


def write_report(
    results: Mapping[str, EvaluationResult],
    *,
    output_dir: Path,
    targets: Mapping[str, BudgetSummary | None],
    shown: Mapping[str, Sequence[ShownImage]],
    route: Route | None,
    parameters: int,
    costs: NetworkCosts | None = None,
) -> tuple[Path, ...]:
    """Write results.json, results.md, and the tables and figures of each dataset.

    Each dataset gets per_image.csv and, if requested, report_data.npz; with ground truth also confusion.csv and
    confusion.png; and for networks with gates route.png, the mean routing, image_routes.png, the routes of the shown
    images, gates.npz, the gates of each image, and, if correlations are reported, image_costs.png. For networks with a
    fixed route, route.png shows it. With several datasets, the name of the dataset is appended, as in
    route_<dataset>.png. Each file is written atomically; those of an earlier evaluation in the folder that are not
    replaced are removed, if its datasets are known from results.json.

    Args:
        results: Results by dataset name.
        output_dir: Run folder; created if missing.
        targets: Budget target of each dataset, if there is one.
        shown: Images of each dataset to show with their routes, if there are any.
        route: Route of a routed network; None for static networks.
        parameters: Number of learnable parameters.
        costs: Cost tables of a routed network.
    """
    lattice = None if route is None else route.lattice
    files: dict[str, str | bytes] = {}
    figures: dict[str, Figure] = {}
    figure_names: dict[str, dict[str, str]] = {}
    for name, result in results.items():
        suffix = dataset_suffix(name, among=results)
        files |= _data_files(result, lattice=lattice, suffix=suffix)
        drawn = _draw(result, shown=shown.get(name, ()), route=route)
        figure_names[name] = {title: f"{_FIGURE_STEMS[title]}{suffix}.png" for title in drawn}
        figures |= {figure_names[name][title]: figure for title, figure in drawn.items()}
    data = {
        "units": UNITS,
        "parameters": parameters,
        **({} if route is None or route.is_whole else {"route": route.entries()}),
        "datasets": {
            name: result_as_dict(result, target=targets.get(name), route=route, costs=costs)
            for name, result in results.items()
        },
    }
    files[RESULTS_MARKDOWN_NAME] = format_markdown(results, targets=targets, route=route, figures=figure_names)
    files[RESULTS_NAME] = json.dumps(data, indent=2, allow_nan=False) + "\n"
    stale = _earlier_files(output_dir) - {*files, *figures}
    for name, figure in figures.items():
        from dl_lib.visualization.figure import save_figure

        save_figure(figure, output_dir / name)
    for file, content in files.items():
        write_atomically(output_dir / file, content)
    for file in stale:
        (output_dir / file).unlink(missing_ok=True)
    return tuple(output_dir / file for file in (*figures, *files))


def draw_mean_routing(result: EvaluationResult, *, lattice: Lattice) -> Figure:
    """Draw the mean gates of a network with gates over the images of a dataset."""
    from dl_lib.visualization.routing import draw_routing

    assert result.mean_gates is not None, "networks without gates have no routing"
    routes = result.reported_routes
    return draw_routing(
        lattice,
        gates=result.mean_gates,
        open_ratios=None if routes is None else routes.open_ratios,
        title=f"{_MEAN_ROUTING} on {result.dataset_name}",
    )


def _earlier_files(folder: Path) -> set[str]:
    """Return the names of the files that an earlier evaluation may have written for its datasets."""
    try:
        names = list(json.loads(read_regular(folder / RESULTS_NAME, max_bytes=MAX_RESULTS_BYTES))["datasets"])
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return set()
    suffixes = [dataset_suffix(name, among=names) for name in names if is_safe_name(name)]
    kinds = [(PER_IMAGE_STEM, "csv"), (CONFUSION_STEM, "csv"), (GATES_STEM, "npz"), (REPORT_DATA_STEM, "npz")]
    kinds += [(stem, "png") for stem in _FIGURE_STEMS.values()]
    return {f"{stem}{suffix}.{kind}" for stem, kind in kinds for suffix in suffixes}


def _data_files(result: EvaluationResult, *, lattice: Lattice | None, suffix: str) -> dict[str, str | bytes]:
    files: dict[str, str | bytes] = {f"{PER_IMAGE_STEM}{suffix}.csv": images_as_csv(result)}
    if result.confusion is not None:
        files[f"{CONFUSION_STEM}{suffix}.csv"] = confusion_as_csv(result.confusion, class_names=result.class_names)
    if result.gates is not None and lattice is not None:
        files[f"{GATES_STEM}{suffix}.npz"] = gates_as_npz(result, lattice=lattice)
    if result.report_data is not None:
        files[f"{REPORT_DATA_STEM}{suffix}.npz"] = report_data_as_npz(result.report_data)
    return files


def _draw(result: EvaluationResult, *, shown: Sequence[ShownImage], route: Route | None) -> dict[str, Figure]:
    """Return the figures of a result by title; matplotlib is loaded only if there are any."""
    figures: dict[str, Figure] = {}
    lattice = None if route is None else route.lattice
    if result.confusion is not None:
        from dl_lib.visualization.confusion_matrix import draw_confusion_matrix

        title = "Confusion matrix"
        figures[title] = draw_confusion_matrix(
            result.confusion.cpu().numpy(),
            class_names=result.class_names,
            title=f"{title} on {result.dataset_name}",
        )
    if result.mean_gates is not None and lattice is not None:
        figures[_MEAN_ROUTING] = draw_mean_routing(result, lattice=lattice)
    if route is not None and route.is_fixed and not route.is_whole:
        from dl_lib.visualization.routing import draw_route

        title = "Fixed route"
        figures[title] = draw_route(route, title=title)
    if shown and lattice is not None:
        title = "Routes of some images"
        figures[title] = draw_shown_images(result, shown, lattice=lattice, title=f"{title} of {result.dataset_name}")
    if result.cost_correlations is not None:
        figures |= _draw_image_costs(result, correlations=result.cost_correlations)
    return figures


def _draw_image_costs(result: EvaluationResult, *, correlations: Mapping[str, RankCorrelation]) -> dict[str, Figure]:
    from dl_lib.visualization.image_costs import draw_image_costs

    title = "Real cost and properties of the images"
    figure = draw_image_costs(
        [image.real_madds_per_pixel for image in result.images],
        properties={
            label: [getattr(image.properties, name, None) for image in result.images]
            for name, label in IMAGE_PROPERTIES.items()
        },
        correlations={label: correlations[name].value for name, label in IMAGE_PROPERTIES.items()},
        title=f"{title} of {result.dataset_name}",
    )
    return {title: figure}
