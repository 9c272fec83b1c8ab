"""Subcommand `dl_lib specialise`: a network without the parts that no image of a dataset uses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from dl_lib.cli.arguments import trained_run_parser
from dl_lib.cli.errors import user_errors
from dl_lib.cli.route_networks import RoutedRun, parse_route_arguments
from dl_lib.config import CfgNode, ConfigError

if TYPE_CHECKING:
    from dl_lib.evaluation.scores.network_comparison import NetworkComparison

__all__ = ["LOGITS_TOLERANCE", "main"]

LOGITS_TOLERANCE = 1e-4  # of the largest absolute logit; far more than float32 noise, far less than any lost part
_SUFFIX = "specialized"  # of the new run folder
_NOTES = f"""
specialization:
  cells and edges that no image opens are removed. Gates that have the same value
  for all images become constants, without their gate networks; the others still
  decide for each image. The outputs on the dataset must not change: nothing is
  written if the logits of an image differ by more than {LOGITS_TOLERANCE:g} of their largest
  absolute value.
"""


def main(argv: Sequence[str] | None = None, *, prog: str = "dl_lib specialise") -> None:
    """Write the run folder of a network specialized for a dataset; see `dl_lib specialise --help`."""
    parser = trained_run_parser(
        prog=prog,
        description="Remove the cells, edges and gates of a trained network that the images of a dataset do not need, "
        "without a change of its outputs on them. Writes a run folder, with parameters, memory, costs and latency "
        "before and after.",
        notes=_NOTES,
    )
    arguments = parse_route_arguments(parser, argv, suffix=_SUFFIX)
    with user_errors(prog):
        run = RoutedRun.load(arguments, suffix=_SUFFIX)
        _check_precision(run.experiment.cfg)
        from dl_lib.inference.freezing import specialized_route

        gates = run.gates()
        try:
            route = specialized_route(run.model.backbone, gates)
        except ValueError as error:
            raise ConfigError(str(error)) from error
        network, comparison = run.compare(route)
        _check_equal(comparison)
        run.write(network, comparison, title=f"Specialization of {run.experiment.output_dir.resolve().name}")
        print(_summary(comparison))


def _check_precision(cfg: CfgNode) -> None:
    if cfg.TEST.PRECISION != "float32":
        raise ConfigError(
            "TEST.PRECISION must be float32, so that equal networks have equal outputs; add TEST.PRECISION=float32. "
            f"Received: TEST.PRECISION={cfg.TEST.PRECISION}"
        )


def _check_equal(comparison: NetworkComparison) -> None:
    if not comparison.logits_difference <= LOGITS_TOLERANCE:  # also if it is NaN
        raise ConfigError(
            f"the specialized network must have the outputs of RUN, up to {LOGITS_TOLERANCE:g} of the largest absolute "
            "logit of an image; nothing was written. Operations may not be deterministic: try MODEL.DEVICE=cpu "
            f"TEST.OPTIMIZE=False. Received: logits_difference={comparison.logits_difference:.3g}, "
            f"label_difference={comparison.label_difference:.3g}"
        )


def _summary(comparison: NetworkComparison) -> str:
    """Return the numbers of removed cells and edges, and of gates that were folded into constants."""
    before, after = comparison.before.route, comparison.after.route
    learned = [[edge for edge, value in route.gates.items() if value is None] for route in (before, after)]
    folded = [edge for edge in learned[0] if edge in after.gates and edge not in learned[1]]
    return (
        f"Removed cells: {len(before.cells) - len(after.cells)} of {len(before.cells)}; "
        f"removed edges: {len(before.edges) - len(after.edges)} of {len(before.edges)}; "
        f"gates folded into constants: {len(folded)}; gates that depend on the image: {len(learned[1])}"
    )
