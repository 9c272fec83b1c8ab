"""Subcommand `dl_lib plot-metrics`: figure of the logged metrics of several runs."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from dl_lib.cli.arg_types import comma_separated, figure_path, ratio, user_path
from dl_lib.cli.errors import user_errors
from dl_lib.config import ConfigError
from dl_lib.utils.escaping import printable
from dl_lib.utils.names import nearest_names
from dl_lib.utils.run_files import run_name

__all__ = ["main"]


def main(argv: Sequence[str] | None = None, *, prog: str = "dl_lib plot-metrics") -> None:
    """Draw one plot per metric with one curve per run; see `dl_lib plot-metrics --help`."""
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Draw the metrics in metrics.json of training runs, finished or not: losses, learning rate, costs, "
        "gradient norm, scores, times. One plot per metric, one curve per run.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("runs", nargs="+", type=user_path, metavar="RUN", help="run folder")
    default = Path("output", "metrics.png")
    add("--output", type=figure_path, default=default, metavar="FILE", help=".png, .svg or .pdf (default: %(default)s)")
    add(
        "--smoothing",
        type=ratio,
        default=0.0,
        metavar="RATIO",
        help="decay of an EMA in [0, 1), such as 0.9; the logged values stay visible (default: 0)",
    )
    add(
        "--metrics",
        type=comma_separated,
        default=[],
        metavar="PATTERNS",
        help="shell patterns, such as 'loss_*,*/mIoU'; '*' selects all (default: all except derived costs)",
    )
    arguments = parser.parse_args(argv)
    with user_errors(prog):
        _plot(arguments)


def _plot(arguments: argparse.Namespace) -> None:
    from dl_lib.utils.metrics_file import read_metrics
    from dl_lib.visualization.curves import draw_curves, select_scalars
    from dl_lib.visualization.figure import COLORS, save_figure

    if len(arguments.runs) > len(COLORS):
        raise ConfigError(
            f"RUN: at most {len(COLORS)} runs can be drawn in different colors. Received: {len(arguments.runs)} runs"
        )
    if len(set(map(os.path.realpath, arguments.runs))) < len(arguments.runs):
        raise ConfigError(f"RUN: each run must be given once. Received: {' '.join(map(str, arguments.runs))}")
    runs = {run_name(folder, among=arguments.runs): read_metrics(folder) for folder in arguments.runs}
    known = list(dict.fromkeys(name for scalars in runs.values() for name in scalars))
    for pattern in arguments.metrics:
        if not select_scalars(known, [pattern]):
            raise ConfigError(f"--metrics: no such metric; {nearest_names(pattern, known)}. Received: {pattern}")
    chosen = select_scalars(known, arguments.metrics) or known
    save_figure(draw_curves(runs, scalars=chosen, smoothing=arguments.smoothing), arguments.output)
    if omitted := [name for name in known if name not in chosen]:
        print(f"Omitted (select them with --metrics): {', '.join(map(printable, omitted))}")
    print(f"Wrote {arguments.output.absolute()}")
