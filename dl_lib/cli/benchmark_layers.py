"""`benchmark_layers.py`: conditional convolutions beside plain ones, both directions, as Markdown and JSON."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from pathlib import Path

from dl_lib.benchmark.machine import describe_machine
from dl_lib.cli.arg_types import comma_separated, positive_int
from dl_lib.cli.benchmark import restart_with_tuned_allocator
from dl_lib.cli.benchmark_files import print_and_write
from dl_lib.cli.errors import user_errors

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print Markdown, and write benchmark_layers.md and .json; see `benchmark_layers.py --help`."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    if arguments.allocator == "tuned":
        restart_with_tuned_allocator(parser)
    with user_errors(parser.prog):
        from dl_lib.benchmark.cases import Settings
        from dl_lib.benchmark.layer_cases import layer_cases
        from dl_lib.benchmark.layer_measure import measure_layers
        from dl_lib.benchmark.layer_report import format_layer_markdown, layer_results_as_dict
        from dl_lib.modeling.build import resolve_device

        device = resolve_device(arguments.device).type
        cases = layer_cases(arguments.scales, images=arguments.images, channels_last=arguments.channels_last)
        timings = measure_layers(cases, Settings(device, num_threads=arguments.threads), repeats=arguments.repeats)
        machine = describe_machine(device)
        markdown = format_layer_markdown(timings, machine=machine)
        values = layer_results_as_dict(timings, machine=machine)
    print_and_write(markdown, values, folder=arguments.output, name="benchmark_layers")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="benchmark_layers.py",
        description="Measure conditional convolutions beside plain ones of the same shape, forward and backward.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--output", type=Path, default=Path("output", "benchmark"), metavar="DIR", help="(default: %(default)s)")
    add("--repeats", type=positive_int, default=9, metavar="N", help="timed rounds (default: %(default)s)")
    add("--threads", type=positive_int, metavar="N", help="CPU threads (default: torch's choice)")
    add("--device", choices=["auto", "cpu", "cuda"], default="auto", help="(default: auto, a GPU where there is one)")
    add("--channels-last", action="store_true", help="memory order of the maps")
    add(
        "--scales",
        type=_list_of_scales,
        default="64x64x128,128x32x64,256x16x32,512x8x16",
        metavar="CxHxW,CxHxW",
        help="channels, height and width of the maps (default: %(default)s)",
    )
    add("--images", type=_counts, default="1,8,16", metavar="N,N", help="in a batch (default: %(default)s)")
    add(
        "--allocator",
        choices=["as-is", "tuned"],
        default="as-is",
        help="tuned: start anew with settings that let glibc reuse large blocks (default: as the environment has it)",
    )
    return parser


def _counts(text: str) -> list[int]:
    return [positive_int(word) for word in comma_separated(text)]


def _list_of_scales(text: str) -> list[tuple[int, int, int]]:
    matches = [re.fullmatch(r"([1-9]\d*)x([1-9]\d*)x([1-9]\d*)", word) for word in comma_separated(text)]
    if not all(matches):
        raise argparse.ArgumentTypeError(f"expected CHANNELSxHEIGHTxWIDTH, such as 64x64x128,8x2x2. Received: {text}")
    return [(int(match[1]), int(match[2]), int(match[3])) for match in matches if match]
