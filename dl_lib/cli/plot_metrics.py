"""`dl_lib plot-metrics RUN...`: the metrics of runs as curves in one picture."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from dl_lib.cli.arg_types import comma_separated, figure_path, ratio
from dl_lib.cli.errors import user_errors
from dl_lib.config import ConfigError
from dl_lib.utils.names import nearest_names

__all__ = ["main"]


def main(argv: Sequence[str] | None = None, *, prog: str = "dl_lib plot-metrics") -> None:
    """Write a PNG with a chart for each scalar and a curve for each run; see `dl_lib plot-metrics --help`."""
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Draw what trainings have written into metrics.json: losses, learning rate, costs, gradient norm, "
        "scores, seconds; a chart for each, with a curve for each run. Runs may be going on.",
        allow_abbrev=False,
    )
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="a run's folder")
    default = Path("output", "metrics.png")
    parser.add_argument(
        "--output", type=figure_path, default=default, metavar="FILE", help=".png, .svg or .pdf (default: %(default)s)"
    )
    parser.add_argument(
        "--smoothing",
        type=ratio,
        default=0.0,
        metavar="SHARE",
        help="of a moving average, in [0, 1), such as 0.9; the values as they are stay behind it (default: 0)",
    )
    parser.add_argument(
        "--metrics",
        type=comma_separated,
        default=[],
        metavar="PATTERNS",
        help="only those that match, such as 'loss_*,*/mIoU'; '*' draws all (default: all but some costs)",
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
            f"there are colours for up to {len(COLORS)} runs; draw some of them. Received: {len(arguments.runs)} runs"
        )
    if len({folder.resolve() for folder in arguments.runs}) < len(arguments.runs):
        raise ConfigError(f"a run stands there twice. Received: {' '.join(map(str, arguments.runs))}")
    runs = {_name(folder, among=arguments.runs): read_metrics(folder) for folder in arguments.runs}
    known = list(dict.fromkeys(name for scalars in runs.values() for name in scalars))
    for pattern in arguments.metrics:
        if not select_scalars(known, [pattern]):
            raise ConfigError(f"no metric is called like this; {nearest_names(pattern, known)}. Received: {pattern}")
    chosen = select_scalars(known, arguments.metrics) or known
    save_figure(draw_curves(runs, scalars=chosen, smoothing=arguments.smoothing), arguments.output)
    if left_out := [name for name in known if name not in chosen]:
        print(f"not drawn (--metrics draws them): {', '.join(left_out)}")
    print(f"figure: {arguments.output.absolute()}")


def _name(folder: Path, *, among: Sequence[Path]) -> str:
    """A run's name: its folder's, or the whole path where others are called the same."""
    own_name = folder.resolve().name
    return own_name if sum(other.resolve().name == own_name for other in among) == 1 else str(folder)
