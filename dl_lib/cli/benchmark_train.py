"""`benchmark_train.py`: what a training costs beside its bare steps, as Markdown and JSON."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from dl_lib.benchmark.machine import describe_machine
from dl_lib.cli.arg_types import positive_int
from dl_lib.cli.benchmark_files import print_and_write
from dl_lib.cli.errors import user_errors
from dl_lib.cli.experiment import load_experiment, register_parts

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print Markdown, and write benchmark_train.md and .json; see `benchmark_train.py --help`."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    with user_errors(parser.prog):
        from dl_lib.benchmark.train_measure import measure_training
        from dl_lib.benchmark.train_report import format_train_markdown, train_results_as_dict

        experiment = load_experiment(arguments.config_file, arguments.opts, world_size=2, purpose="training")
        register_parts(experiment)
        results = measure_training(experiment.cfg, repeats=arguments.repeats, memory_side=arguments.memory_side)
        machine = {**describe_machine("cpu"), "experiment": arguments.config_file}
        machine["memory of one image of"] = f"{arguments.memory_side}x{arguments.memory_side}"
        markdown = format_train_markdown(results, machine=machine)
        values = train_results_as_dict(results, machine=machine)
    print_and_write(markdown, values, folder=arguments.output, name="benchmark_train")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="benchmark_train.py",
        description="Measure the training loop against bare steps, waiting for data, memory orders, activation "
        "checkpointing, and two processes against one, on the CPU.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--config-file", default="playground/Quickstart", metavar="PATH", help="(default: %(default)s)")
    add("--output", type=Path, default=Path("output", "benchmark"), metavar="DIR", help="(default: %(default)s)")
    add("--repeats", type=positive_int, default=7, metavar="N", help="timed rounds (default: %(default)s)")
    add("--memory-side", type=positive_int, default=768, metavar="PIXELS", help="of the image (default: %(default)s)")
    add("opts", nargs="*", metavar="KEY=VALUE", help="overrides of the configuration")
    return parser
