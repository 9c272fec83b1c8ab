"""Subcommand `dl_lib profile-costs`: latency table of a routed network on this device."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dl_lib.cli.arg_types import image_size, local_path
from dl_lib.cli.arguments import network_parser, parse_arguments
from dl_lib.cli.errors import user_errors
from dl_lib.config import ConfigError
from dl_lib.experiment.config_file import find_config_file
from dl_lib.experiment.experiment import Experiment, load_experiment
from dl_lib.utils.output_path import prepare_folder
from dl_lib.utils.run_files import LATENCY_STEM

if TYPE_CHECKING:
    from dl_lib.inference.latency import LatencyProfile

__all__ = ["main"]

_NOTES = """
measurement:
  parts are timed inside predictions of single images by the copy that evaluation
  runs (TEST.OPTIMIZE, TEST.PRECISION, sparse execution), on random routes; weights
  do not matter. The check predicts and measures 20 other random routes. Close other
  programs; the environment variable OMP_NUM_THREADS sets the CPU threads, and
  MODEL.DEVICE=cuda chooses the GPU.
"""


def main(argv: Sequence[str] | None = None, *, prog: str = "dl_lib profile-costs") -> None:
    """Measure a latency table, check and write it; see `dl_lib profile-costs --help`."""
    arguments = _parse(argv, prog=prog)
    with user_errors(prog):
        path = os.fspath(find_config_file(arguments.config_file, option="CONFIG"))
        experiment = load_experiment(path, arguments.opts, purpose="evaluation")
        folder, key = (arguments.output, "--output") if arguments.output else (experiment.output_dir, "OUTPUT_DIR")
        prepare_folder(folder, key=key)
        profile = _measure(experiment, arguments.size)
        names = _write(profile, folder=folder, name=experiment.output_dir.resolve().name)
    print(_summary(profile))
    print(f"Wrote {', '.join(names)} to {folder.absolute()}")


def _parse(argv: Sequence[str] | None, *, prog: str) -> argparse.Namespace:
    parser = network_parser(
        prog=prog,
        description="Measure the latency of every part of a routed network on this device, and check that their sum "
        "predicts the latency of random routes. MODEL.BUDGET.LATENCY_TABLE uses the table.",
        notes=_NOTES,
    )
    add = parser.add_argument
    add("--size", type=image_size, required=True, metavar="HxW", help="height and width of the image in pixels")
    add("--output", type=local_path, metavar="DIR", help="folder of the results (default: OUTPUT_DIR)")
    return parse_arguments(parser, argv)


def _measure(experiment: Experiment, size: tuple[int, int]) -> LatencyProfile:
    from dl_lib.engine import build_configured_model
    from dl_lib.inference.latency import profile_latency
    from dl_lib.modeling import DynamicNet4Seg
    from dl_lib.modeling.costs.latency_file import network_values

    cfg = experiment.cfg.with_values({"MODEL.BUDGET.CONSTRAIN": False})
    model = build_configured_model(cfg)
    if not isinstance(model, DynamicNet4Seg):
        raise ConfigError(
            "MODEL.META_ARCHITECTURE must be DynamicNet4Seg, whose cost depends on the route. "
            f"Received: MODEL.META_ARCHITECTURE={cfg.MODEL.META_ARCHITECTURE}"
        )
    try:
        return profile_latency(model, size=size, precision=cfg.TEST.PRECISION, network=network_values(cfg))
    except ValueError as error:
        raise ConfigError(f"the network cannot be profiled: {error}") from error


def _write(profile: LatencyProfile, *, folder: Path, name: str) -> list[str]:
    """Write table, check and figure, and return the names of the files."""
    from dl_lib.modeling.costs.latency_file import latency_to_json
    from dl_lib.utils.files import write_atomically
    from dl_lib.visualization.figure import save_figure
    from dl_lib.visualization.latency import draw_latency

    conditions = profile.table.conditions
    stem = f"{LATENCY_STEM}_{conditions.size_text}"
    write_atomically(folder / f"{stem}.json", latency_to_json(profile.table))
    rows = (f"{route.edges},{route.predicted_ms!r},{route.measured_ms!r}" for route in profile.routes)
    write_atomically(folder / f"{stem}.csv", "\n".join(["open_edges,predicted_ms,measured_ms", *rows]) + "\n")
    figure = draw_latency(
        [route.predicted_ms for route in profile.routes],
        [route.measured_ms for route in profile.routes],
        title=f"{name}, {conditions.size_text}, {conditions.device}: median error {profile.median_error:.1%}",
    )
    save_figure(figure, folder / f"{stem}.png")
    return [f"{stem}.{suffix}" for suffix in ("json", "csv", "png")]


def _summary(profile: LatencyProfile) -> str:
    from tabulate import tabulate

    table, conditions = profile.table, profile.table.conditions
    rows = [
        (number, route.edges, f"{route.predicted_ms:.3f}", f"{route.measured_ms:.3f}", f"{100 * route.error:+.1f}")
        for number, route in enumerate(sorted(profile.routes, key=lambda route: route.measured_ms), 1)
    ]
    routes = tabulate(
        rows,
        headers=["route", "open edges", "predicted (ms)", "measured (ms)", "error (%)"],
        colalign=["right"] * 5,
        disable_numparse=True,
    )
    parts = {
        "stem": table.stem,
        "head": table.head,
        "decisions": table.decisions,
        "gates": sum(table.gates.values()),
        "operations": sum(table.operations.values()),
        "transitions": sum(table.transitions.values()),
        "all open": table.dense,
    }
    return "\n".join(
        [
            f"{conditions.size_text} on {conditions.device}, {conditions.precision}, CPU threads: {conditions.threads}",
            ", ".join(f"{part} {ms:.3f} ms" for part, ms in parts.items()),
            "",
            routes,
            "",
            f"Median error of the predicted latency: {profile.median_error:.1%}",
        ]
    )
