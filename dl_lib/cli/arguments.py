"""What the commands for runs understand on their command lines."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from dl_lib.launch import LaunchError, ProcessRequest

__all__ = ["parse_run_arguments"]

_OVERRIDES = """
overrides:
  every key of the configuration can be set as KEY VALUE or KEY=VALUE, in any mixture:
    %(prog)s SOLVER.IMS_PER_BATCH 4 SOLVER.OPTIMIZER.BASE_LR=0.02 "INPUT.CROP_SIZE=[256, 256]"
"""


def parse_run_arguments(argv: Sequence[str] | None, *, prog: str, description: str, trains: bool) -> argparse.Namespace:
    """Parse the command line of `dl_train` or `dl_test`.

    Args:
        argv: the words after the command; None takes them from the process.
        prog: name of the command.
        description: what it does.
        trains: whether it knows `--resume` and `--eval-only`, or `--submission`.

    Returns:
        A namespace with config_file, processes (a `ProcessRequest`), opts (with `MODEL.DEVICE` for `--device`), resume,
        eval_only, submission.

    Raises:
        SystemExit: with status 2, after a message, if the line cannot be understood.
    """
    parser = argparse.ArgumentParser(
        prog=prog,
        description=description,
        epilog=_OVERRIDES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--config-file",
        metavar="PATH",
        help="a YAML file, or a folder with a config.yaml: an experiment of the playground or a finished run "
        "(default: ./config.yaml)",
    )
    if trains:
        parser.add_argument(
            "--resume", action="store_true", help="go on from the last checkpoint in OUTPUT_DIR, if there is one"
        )
        parser.add_argument("--eval-only", action="store_true", help="evaluate as dl_test does, without training")
        parser.set_defaults(submission=False)
    else:
        parser.add_argument(
            "--submission",
            action="store_true",
            help="also write the archive that the server of Cityscapes or PASCAL VOC takes, checked for names, sizes "
            "and ids, into the run's folder",
        )
        parser.set_defaults(resume=False, eval_only=True)
    _add_launch_arguments(parser)
    parser.add_argument("opts", nargs="*", metavar="KEY VALUE", help="overrides of the configuration, see below")
    return _resolved(parser, parser.parse_intermixed_args(argv))


def _add_launch_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group(
        "processes", "Under torchrun, and in a job step of SLURM's srun, the processes are those that it has started."
    )
    group.add_argument(
        "--num-gpus",
        "--num-processes",
        dest="num_processes",
        type=int,
        metavar="N",
        help="processes on this machine: one for each GPU, or on the CPU (default: 1)",
    )
    group.add_argument("--num-machines", type=int, default=1, metavar="N", help="machines of the run (default: 1)")
    group.add_argument("--machine-rank", type=int, default=0, metavar="N", help="number of this machine, from 0")
    group.add_argument(
        "--dist-url",
        default="auto",
        metavar="URL",
        help="where the processes meet, such as tcp://10.0.0.1:29500; auto is a free port of this machine",
    )
    group.add_argument("--device", help="auto, cpu, cuda or cuda:N, in the place of MODEL.DEVICE")


def _resolved(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> argparse.Namespace:
    given = vars(arguments)
    numbers = {name: given.pop(name) for name in ("num_processes", "num_machines", "machine_rank", "dist_url")}
    try:
        arguments.processes = ProcessRequest(**numbers)
    except LaunchError as error:
        parser.error(str(error))
    if (device := given.pop("device")) is not None:
        arguments.opts = [*arguments.opts, f"MODEL.DEVICE={device}"]
    return arguments
