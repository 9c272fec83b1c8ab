"""Speed of the library as commands run it, relative to a plain eager network (`baseline_network`).

Run `python tools/benchmarks/speed.py --help`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from harness import add_parts_option, benchmark_parser, start
from report import Report, describe_machine, measure_parts
from speed_prediction import measure_large, measure_small
from speed_roofline import measure_overhead, measure_roofline
from speed_routes import measure_batch, measure_routes
from speed_training import measure_steps

from dl_lib.cli.errors import user_errors

PARTS = {
    "large": measure_large,
    "routes": measure_routes,
    "batch": measure_batch,
    "small": measure_small,
    "steps": measure_steps,
    "roofline": measure_roofline,
    "overhead": measure_overhead,
}
NOTES = """\
Medians of {rounds} rounds after a warm-up, in which the cases of a table alternate; both sides keep freed memory. \
Baseline: contiguous feature maps, separate norms, all cells and transitions of all images. dl_lib: the model that \
`dl_lib evaluate` and `dl_lib train` run with the default configuration; bf16 and compiled: with TEST.PRECISION=bf16 \
and TEST.EXECUTION=compiled. Open gates have the value 0.76. Memory: peak of a fresh process minus that before its \
network is built. Matmul and convolution fraction: executed GMAC/s, norms and ReLUs included, relative to a product \
of two 2048x2048 matrices, and to the same product as a 1x1 convolution. Normalized time: time relative to all gates \
open, divided by the cost relative to all gates open. Roofline: GMAC of convolutions only, since norms and ReLUs are \
part of them and take no time of their own; bytes of the feature maps and weights that each operation reads and \
writes; bound of an operation: the longer of the times for its multiply-adds at the highest of the rates and for its \
bytes at the rate of a copy; ratio: time to bound, below 1 where feature maps are still in the caches. Time inside \
convolutions: of the profiler, on the calling thread."""


def main(argv: Sequence[str] | None = None) -> None:
    parser = benchmark_parser("speed.py", description="Compare the library with a plain eager network.", repeats=5)
    add_parts_option(parser, list(PARTS))
    arguments = parser.parse_args(argv)
    arguments.keep_memory = True
    rounds = arguments.repeats
    with user_errors(parser.prog):
        settings = start(arguments)
        measures = {name: partial(measure, settings, rounds=rounds) for name, measure in PARTS.items()}
        tables, samples = measure_parts(measures, arguments.parts)
    report = Report("Speed", describe_machine(settings), NOTES.format(rounds=rounds), tables, samples)
    report.write(arguments.output, "speed", document=arguments.document)


if __name__ == "__main__":
    main()
