"""Command line arguments shared by commands: config file, overrides, processes."""

from __future__ import annotations

import argparse
import json
import textwrap
from collections.abc import Sequence

from dl_lib.launch import LaunchError, ProcessRequest

__all__ = [
    "experiment_parser",
    "network_parser",
    "parse_arguments",
    "parse_run_arguments",
    "prediction_parser",
    "trained_run_parser",
]

_WIDTH = 80  # the raw formatter, which keeps the sections of the epilog, does not wrap
_OVERRIDES = """
overrides:
  config keys, as KEY VALUE or KEY=VALUE:
    SOLVER.IMS_PER_BATCH 4 SEED=1 "INPUT.CROP_SIZE=[256, 256]"
    DATASETS.FOLDERS.0.IMAGES=mine/images  (element 0 of the list)
  dl_lib config KEY describes a key.
"""
_CONFIG_HELP = (
    "YAML file, folder with a config.yaml (an experiment or a finished run), or name of a shipped experiment such as "
    "Quickstart"
)


def experiment_parser(
    *, prog: str, description: str, notes: str = "", default_config: str = "config.yaml in the current folder"
) -> argparse.ArgumentParser:
    """Return a parser with `--config-file`; the help text has `notes` after the options."""
    parser = _parser_with_overrides(prog=prog, description=description, notes=notes)
    parser.add_argument("--config-file", metavar="PATH", help=f"{_CONFIG_HELP} (default: {default_config})")
    return parser


def network_parser(*, prog: str, description: str, notes: str = "") -> argparse.ArgumentParser:
    """Return a parser with `CONFIG`, of which a command uses the network."""
    parser = _parser_with_overrides(prog=prog, description=description, notes=notes)
    parser.add_argument("config_file", metavar="CONFIG", help=_CONFIG_HELP)
    return parser


def trained_run_parser(*, prog: str, description: str, notes: str = "") -> argparse.ArgumentParser:
    """Return a parser with `RUN` and `--data`, for `trained_run.load_trained_run`."""
    parser = prediction_parser(prog=prog, description=description, notes=notes)
    parser.add_argument("--data", metavar="NAME", help="dataset, in place of those in DATASETS.TEST")
    return parser


def prediction_parser(
    *, prog: str, description: str, notes: str = "", run_help: str = "folder of a finished run, or its config.yaml"
) -> argparse.ArgumentParser:
    """Return a parser with `RUN`, for commands that need no dataset."""
    parser = _parser_with_overrides(prog=prog, description=description, notes=notes)
    parser.add_argument("run", metavar="RUN", help=run_help)
    return parser


def _parser_with_overrides(*, prog: str, description: str, notes: str) -> argparse.ArgumentParser:
    return argparse.ArgumentParser(
        prog=prog,
        description=textwrap.fill(description, _WIDTH),
        epilog=notes + _OVERRIDES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )


def parse_arguments(parser: argparse.ArgumentParser, argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse options and overrides, which go to `opts`, in any order; `argv=None` reads those of the process.

    Raises:
        SystemExit: With status 2, after a message, if an argument is invalid.
    """
    parser.add_argument("opts", nargs="*", metavar="KEY VALUE", help="overrides of config keys, see below")
    return parser.parse_intermixed_args(argv)


def parse_run_arguments(parser: argparse.ArgumentParser, argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse options, overrides and the processes of a run.

    Returns:
        A namespace with the overrides in `opts`, `MODEL.DEVICE` for `--device` and `DATASETS.TEST` for `--data` among
        them, and a `ProcessRequest` in `processes`.

    Raises:
        SystemExit: With status 2, after a message, if an argument is invalid.
    """
    _add_process_arguments(parser)
    arguments = parse_arguments(parser, argv)
    given = vars(arguments)
    request = {name: given.pop(name) for name in ("num_processes", "num_machines", "machine_rank", "dist_url")}
    try:
        arguments.processes = ProcessRequest(**request)
    except LaunchError as error:
        parser.error(str(error))
    if (device := given.pop("device")) is not None:
        arguments.opts = [*arguments.opts, f"MODEL.DEVICE={device}"]
    if (dataset := given.pop("data", None)) is not None:
        arguments.opts = [*arguments.opts, f"DATASETS.TEST={json.dumps([dataset])}"]
    return arguments


def _add_process_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group(
        "processes",
        "Not needed under torchrun or SLURM's srun, which start the processes.",
    )
    group.add_argument(
        "--num-gpus",
        "--num-processes",
        dest="num_processes",
        type=int,
        metavar="N",
        help="processes on this machine, one per GPU or on the CPU (default: 1)",
    )
    group.add_argument("--num-machines", type=int, default=1, metavar="N", help="number of machines (default: 1)")
    group.add_argument("--machine-rank", type=int, default=0, metavar="N", help="rank of this machine, from 0")
    group.add_argument(
        "--dist-url",
        default="auto",
        metavar="URL",
        help="init method, such as tcp://10.0.0.1:29500; auto uses a free port of this machine (default: auto)",
    )
    group.add_argument("--device", help="auto, cpu, cuda or cuda:N; sets MODEL.DEVICE")
