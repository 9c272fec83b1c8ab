"""Subcommand `dl_lib freeze-route`: a static network from a route of a trained one."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from dl_lib.cli.arg_types import ratio
from dl_lib.cli.arguments import trained_run_parser
from dl_lib.cli.errors import user_errors
from dl_lib.cli.given_routes import add_gates_option, add_route_option, gate_values, given_route
from dl_lib.cli.route_networks import RoutedRun, parse_route_arguments

if TYPE_CHECKING:
    from dl_lib.modeling.dynamic.route import Route

__all__ = ["main"]

_KEEP = 0.5
_SUFFIX = "frozen"  # of the new run folder
_NOTES = """
routes:
  --keep F keeps the edges that are open for more than a ratio F of the images, as
  the networks "Common" of the paper. --route takes a name (docs/routes.md), a
  .json file, or edges: layer0_stride4.keep,layer1_stride4.keep=0.7,…
  Weights are carried over. The gates of the edges become constants: their means
  over the images, or 1. Values other than 1 in --route stay as they are.
"""


def main(argv: Sequence[str] | None = None, *, prog: str = "dl_lib freeze-route") -> None:
    """Write the run folder of a network with a fixed route; see `dl_lib freeze-route --help`."""
    arguments = _parse(argv, prog=prog)
    with user_errors(prog):
        run = RoutedRun.load(arguments, suffix=_SUFFIX)
        route = _fixed_route(run, arguments)
        network, comparison = run.compare(route)
        run.write(network, comparison, title=f"Fixed route of {run.experiment.output_dir.resolve().name}")


def _parse(argv: Sequence[str] | None, *, prog: str) -> argparse.Namespace:
    parser = trained_run_parser(
        prog=prog,
        description="Make a static network of the route that most images take through a trained network, or of a given "
        "route. Writes a run folder, with scores, costs and latency before and after.",
        notes=_NOTES,
    )
    routes = parser.add_mutually_exclusive_group()
    routes.add_argument("--keep", type=ratio, metavar="F", help=f"ratio of images, in [0, 1) (default: {_KEEP})")
    add_route_option(routes)
    add_gates_option(parser)
    return parse_route_arguments(parser, argv, suffix=_SUFFIX)


def _fixed_route(run: RoutedRun, arguments: argparse.Namespace) -> Route:
    from dl_lib.inference.freezing import frequent_route

    cfg = run.experiment.cfg
    if arguments.route is not None:
        return given_route(cfg, run.model, arguments, gates=run.gates)
    keep = _KEEP if arguments.keep is None else arguments.keep
    values = gate_values(cfg, arguments)
    return frequent_route(run.model.backbone.lattice, run.gates(), keep=keep, values=values)
