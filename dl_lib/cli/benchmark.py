"""`benchmark.py`: latency, training step and memory of the default network, as Markdown and JSON."""

from __future__ import annotations

import argparse
import fnmatch
import os
import platform
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dl_lib.benchmark.machine import TUNED_ALLOCATOR, describe_machine
from dl_lib.cli.arg_types import comma_separated, comma_separated_sizes, positive_int
from dl_lib.cli.benchmark_files import print_and_write
from dl_lib.cli.errors import user_errors
from dl_lib.utils.names import nearest_names

if TYPE_CHECKING:
    from dl_lib.benchmark.cases import Case

__all__ = ["main", "restart_with_tuned_allocator"]

_EPILOG = """
cases are named
  evaluation/512x1024/half/channels_last_folded/sparse
    HEIGHTxWIDTH, open | half, contiguous | channels_last | channels_last_folded, dense | sparse
  training/2x3x256x256/small_gate/channels_last
    full_gate | small_gate, contiguous | channels_last
  and chosen by patterns such as --cases 'evaluation/512x1024/*,training/*'
every key of the configuration can be set as KEY VALUE or KEY=VALUE
"""


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print Markdown, and write benchmark.md and benchmark.json; see `benchmark.py --help`."""
    parser = _parser()
    arguments = parser.parse_intermixed_args(argv)
    if arguments.allocator == "tuned":
        restart_with_tuned_allocator(parser)
    with user_errors(parser.prog):
        from dl_lib.benchmark.cases import Settings, all_cases
        from dl_lib.benchmark.measure import measure
        from dl_lib.benchmark.report import format_markdown, results_as_dict
        from dl_lib.modeling.build import resolve_device

        cases = _chosen(all_cases(arguments.sizes), arguments.cases, parser=parser)
        device = resolve_device(arguments.device).type
        settings = Settings(device, num_threads=arguments.threads, opts=tuple(arguments.opts))
        results = measure(cases, settings, repeats=arguments.repeats)
        machine = describe_machine(device)
        markdown = format_markdown(results, machine=machine, opts=arguments.opts)
        values = results_as_dict(results, machine=machine, opts=arguments.opts)
    print_and_write(markdown, values, folder=arguments.output, name="benchmark")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="benchmark.py",
        description="Measure how long the default network (16 layers, 1024x2048 and smaller) takes, and its memory.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--output", type=Path, default=Path("output", "benchmark"), metavar="DIR", help="(default: %(default)s)")
    add("--repeats", type=positive_int, default=5, metavar="N", help="timed rounds (default: %(default)s)")
    add("--threads", type=positive_int, metavar="N", help="CPU threads (default: torch's choice)")
    add("--device", choices=["auto", "cpu", "cuda"], default="auto", help="(default: auto, a GPU where there is one)")
    add("--cases", type=comma_separated, default=["*"], metavar="PATTERNS", help="only those that match (default: all)")
    add(
        "--sizes",
        type=comma_separated_sizes,
        default="512x1024,1024x2048",
        metavar="HxW,HxW",
        help="of the images to evaluate (default: %(default)s)",
    )
    add(
        "--allocator",
        choices=["as-is", "tuned"],
        default="as-is",
        help="tuned: start anew with settings that let glibc reuse large blocks (default: as the environment has it)",
    )
    add("opts", nargs="*", metavar="KEY VALUE", help="overrides of the default configuration")
    return parser


def _chosen(cases: Sequence[Case], patterns: Sequence[str], *, parser: argparse.ArgumentParser) -> list[Case]:
    names = [case.name for case in cases]
    for pattern in patterns:
        if not fnmatch.filter(names, pattern):
            parser.error(f"no case has a name like this; {nearest_names(pattern, names)}. Received: --cases {pattern}")
    return [case for case in cases if any(fnmatch.fnmatchcase(case.name, pattern) for pattern in patterns)]


def restart_with_tuned_allocator(parser: argparse.ArgumentParser) -> None:
    """Replaces this process by the same command in another environment: glibc reads it when a process starts."""
    if platform.libc_ver()[0] != "glibc":
        parser.error("tuned are settings of glibc, which this Python does not use. Received: --allocator tuned")
    if any(os.environ.get(name) != value for name, value in TUNED_ALLOCATOR.items()):
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], {**os.environ, **TUNED_ALLOCATOR})
