"""`zoo.py train` and `zoo.py table`: the experiments of playground/Zoo beside the plain cell, at equal iterations."""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from dl_lib.cli.arg_types import comma_separated_ints, comma_separated_sizes, non_negative_int, positive_int
from dl_lib.cli.errors import user_errors
from dl_lib.config import ConfigError
from dl_lib.utils.allocator import keep_freed_memory
from dl_lib.utils.files import write_atomically
from dl_lib.utils.run_files import RESULTS_NAME

__all__ = ["main"]

_TRAIN = "from dl_lib.cli.train import main; main()"
_MEASURED = ["MODEL.DEVICE=cpu", "MODEL.COMPILE=False", "TEST.EXECUTION=dense"]  # all of it, whatever the gates say
_FINISHED = "every run has its results; zoo.py table reads them"


def main(argv: Sequence[str] | None = None) -> None:
    """Train the experiments under several seeds, or write the table; see `zoo.py --help`."""
    arguments = _parser().parse_args(argv)
    with user_errors("zoo.py"):
        if arguments.command == "train":
            _train(arguments)
        else:
            _table(arguments)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="zoo.py", description="Compare the experiments of a playground at equal iterations.", allow_abbrev=False
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="{train,table}")
    train = commands.add_parser("train", help="train each experiment once for each seed; finished runs are left alone")
    table = commands.add_parser("table", help="parameters, cost and time of each, and the scores of its runs")
    for command in (train, table):
        command.add_argument("experiments", nargs="+", type=Path, metavar="EXPERIMENT", help="a folder of a playground")
        command.add_argument("--runs", type=Path, default=Path("output", "zoo"), help="(default: %(default)s)")
    train.add_argument(
        "--seeds", type=comma_separated_ints, default="0,1,2", metavar="N,N", help="(default: %(default)s)"
    )
    train.add_argument("--iterations", type=positive_int, default=400, metavar="N", help="(default: %(default)s)")
    table.add_argument(
        "--size", type=comma_separated_sizes, default="1024x2048", help="of the image (default: %(default)s)"
    )
    table.add_argument(
        "--repeats", type=non_negative_int, default=3, metavar="N", help="timed runs; 0: none (default: 3)"
    )
    table.add_argument("--output", type=Path, metavar="FILE", help="write the table there, too")
    table.add_argument("--picture", type=Path, metavar="PNG", help="draw scores, costs and times there")
    return parser


def _train(arguments: argparse.Namespace) -> None:
    """One process after the other, so that each run has the machine for itself."""
    for seed in arguments.seeds:
        for experiment in arguments.experiments:
            folder = arguments.runs / f"{experiment.resolve().name}-seed{seed}"
            if (folder / RESULTS_NAME).is_file():
                continue
            words = ["--config-file", str(experiment), f"SEED={seed}", f"OUTPUT_DIR={folder}"]
            words.append(f"SOLVER.LR_SCHEDULER.MAX_ITER={arguments.iterations}")
            if status := subprocess.run([sys.executable, "-c", _TRAIN, *words], check=False).returncode:
                raise ConfigError(f"this training ended with status {status}; see above. Received: {folder}")
    print(_FINISHED)


def _table(arguments: argparse.Namespace) -> None:
    from dl_lib.benchmark.machine import describe_machine
    from dl_lib.benchmark.zoo import format_zoo, measure_entry, read_scores
    from dl_lib.benchmark.zoo_picture import draw_zoo
    from dl_lib.cli.experiment import load_experiment
    from dl_lib.evaluation.report.canvas import encode_png

    (size, *_) = arguments.size
    keeps_memory, entries = keep_freed_memory(), []
    for folder in arguments.experiments:
        name = folder.resolve().name
        scores = read_scores(sorted(arguments.runs.glob(f"{name}-seed*")))
        cfg = load_experiment(str(folder), _MEASURED, purpose="evaluation").cfg
        entries.append(measure_entry(cfg, name=name, size=size, repeats=arguments.repeats, scores=scores))
    machine = describe_machine("cpu")
    if keeps_memory:
        machine["allocator"] = "keeps freed memory, as in dl_lib evaluate"
    text = format_zoo(entries, size=size, machine=machine)
    if arguments.output is not None:
        write_atomically(arguments.output, text)
    if arguments.picture is not None:
        write_atomically(arguments.picture, encode_png(draw_zoo(entries, size=size)))
    print(text)
