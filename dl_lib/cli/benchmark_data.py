"""`benchmark_data.py`: what a training sample costs to load, against a plain way with Pillow, as Markdown and JSON."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from dl_lib.benchmark.machine import describe_machine
from dl_lib.cli.arg_types import comma_separated_ints, comma_separated_sizes, positive_int
from dl_lib.cli.benchmark_files import print_and_write
from dl_lib.cli.errors import user_errors

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print Markdown, and write benchmark_data.md and benchmark_data.json; see `benchmark_data.py --help`."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    with user_errors(parser.prog):
        from dl_lib.benchmark.data_measure import measure_loading
        from dl_lib.benchmark.data_report import data_results_as_dict, format_data_markdown

        if len(arguments.size) != 1:
            parser.error(f"all pictures have one size. Received: --size {arguments.size}")
        results = measure_loading(
            size=arguments.size[0], pictures=arguments.images, repeats=arguments.repeats, workers=arguments.workers
        )
        machine = describe_machine("cpu")
        markdown = format_data_markdown(results, machine=machine)
        values = data_results_as_dict(results, machine=machine)
    print_and_write(markdown, values, folder=arguments.output, name="benchmark_data")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="benchmark_data.py",
        description="Measure what a training sample of the published recipe costs to load, on pictures made for it.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--output", type=Path, default=Path("output", "benchmark"), metavar="DIR", help="(default: %(default)s)")
    add("--repeats", type=positive_int, default=5, metavar="N", help="timed rounds (default: %(default)s)")
    add("--images", type=positive_int, default=12, metavar="N", help="pictures (default: %(default)s)")
    add("--size", type=comma_separated_sizes, default="1024x2048", metavar="HxW", help="of them (default: %(default)s)")
    add(
        "--workers",
        type=comma_separated_ints,
        default="0,1,2",
        metavar="N,N",
        help="numbers of processes to load with (default: %(default)s)",
    )
    return parser
