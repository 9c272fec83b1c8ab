"""Subcommand `dl_lib plot-routes`: figure of the routes of a run, of one image, or of the difference of two runs."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dl_lib.cli.arg_types import figure_path, user_path
from dl_lib.cli.errors import user_errors
from dl_lib.config import ConfigError
from dl_lib.utils.names import nearest_names
from dl_lib.utils.run_files import GATES_STEM, run_name

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from dl_lib.evaluation.report.gates_file import ImageGates

__all__ = ["main"]


def main(argv: Sequence[str] | None = None, *, prog: str = "dl_lib plot-routes") -> None:
    """Draw the gate values of one or two evaluations; see `dl_lib plot-routes --help`."""
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Draw the lattice with the gate values of an evaluation: the mean over its images, or one image. "
        "For two runs, draw the difference of the second from the first.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("runs", nargs="+", type=user_path, metavar="RUN", help="run or evaluation folder of a network with gates")
    add("--image", metavar="ID", help="image_id of per_image.csv (default: mean over all images)")
    add("--dataset", metavar="NAME", help="dataset, for evaluations on several")
    default = Path("output", "routes.png")
    add("--output", type=figure_path, default=default, metavar="FILE", help=".png, .svg or .pdf (default: %(default)s)")
    arguments = parser.parse_args(argv)
    with user_errors(prog):
        from dl_lib.visualization.figure import save_figure

        save_figure(_draw(arguments), arguments.output)
        print(f"Wrote {arguments.output.absolute()}")


def _draw(arguments: argparse.Namespace) -> Figure:
    runs = arguments.runs
    if len(runs) > 2:
        raise ConfigError(f"RUN: one run, or two to compare. Received: {len(runs)} runs")
    evaluations = {run_name(folder, among=runs): _read(folder, dataset=arguments.dataset) for folder in runs}
    if len(evaluations) < len(runs):
        raise ConfigError(f"RUN: two runs to compare must be different folders. Received: {' '.join(map(str, runs))}")
    gates = [_gates(evaluation, image=arguments.image) for evaluation in evaluations.values()]
    names = list(evaluations)
    shown = "Mean routing" if arguments.image is None else f"Routing of {arguments.image}"
    first = evaluations[names[0]]
    if len(runs) == 1:
        from dl_lib.visualization.routing import draw_routing

        open_ratios = (first.gates > 0).mean(axis=0).tolist() if arguments.image is None else None
        title = f"{shown}: {names[0]}"
        return draw_routing(first.lattice, gates=gates[0], open_ratios=open_ratios, title=title)
    from dl_lib.visualization.route_difference import draw_route_difference

    second = evaluations[names[1]]
    if first.lattice != second.lattice:
        raise ConfigError(
            "RUN: both networks must have the same lattice (MODEL.BACKBONE.CELL_NUM_LIST). "
            f"Received: {list(first.lattice.cells_per_layer)} and {list(second.lattice.cells_per_layer)}"
        )
    title = f"{shown}: {names[1]} minus {names[0]}"
    return draw_route_difference(
        first.lattice, first=gates[0], second=gates[1], names=(names[0], names[1]), title=title
    )


def _read(folder: Path, *, dataset: str | None) -> ImageGates:
    from dl_lib.evaluation.report.gates_file import read_gates
    from dl_lib.evaluation.report.results_file import read_results

    files = {path.stem.removeprefix(f"{GATES_STEM}_"): path for path in sorted(folder.glob(f"{GATES_STEM}_*.npz"))}
    only = folder / f"{GATES_STEM}.npz"
    if dataset is None and len(files) > 1 and not only.exists():
        raise ConfigError(f"--dataset: the evaluation has several datasets; add --dataset NAME. Received: {[*files]}")
    known = list(files) or ([] if dataset is None else list(read_results(folder).datasets))
    if dataset is not None and dataset not in known:
        raise ConfigError(f"--dataset: no such dataset; {nearest_names(dataset, known)}. Received: {dataset}")
    return read_gates(only if dataset is None or not files else files[dataset])


def _gates(evaluation: ImageGates, *, image: str | None) -> list[float]:
    if image is None:
        return evaluation.gates.mean(axis=0).tolist()
    if image not in evaluation.image_ids:
        raise ConfigError(f"--image: no such image; {nearest_names(image, evaluation.image_ids)}. Received: {image}")
    return evaluation.gates[evaluation.image_ids.index(image)].tolist()
