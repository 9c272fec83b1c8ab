"""Latency and memory of the default network in evaluation: dense and sparse execution, memory orders, folded norms.

Run `python tools/benchmarks/evaluation.py --help`.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Literal

from harness import Case, Memory, Run, Settings, Timing, benchmark_parser, measure_memory, start, time_cases
from machine_rates import MATMUL_SIDE, MachineRates
from networks import Size, build_network, default_config, executed_gmadds, predict, random_image
from report import Report, Table, describe_machine

from dl_lib.cli.arg_types import comma_separated, comma_separated_sizes
from dl_lib.cli.errors import user_errors
from dl_lib.inference import fold_batch_norms
from dl_lib.modeling.dynamic.forced_gates import force_gates
from dl_lib.modeling.dynamic.lattice import Lattice, Node
from dl_lib.utils.names import nearest_names


@dataclass(frozen=True)
class EvaluationCase(Case):
    """Prediction for one image, from pixels to logits of the same size."""

    size: Size  # (height, width) in pixels
    gates: Literal["open", "half"]  # all open, or those of `half_of_the_cells` closed
    variant: Literal["contiguous", "channels_last", "channels_last_folded"]  # memory order; batch norms folded
    execution: Literal["dense", "sparse"]

    @property
    def name(self) -> str:
        return f"{self.group}/{self.gates}/{self.variant}/{self.execution}"

    @property
    def group(self) -> str:
        return "{}x{}".format(*self.size)

    def prepare(self, settings: Settings) -> Run:
        overrides = ["TEST.EXECUTION", self.execution, "MODEL.CHANNELS_LAST", self.variant != "contiguous"]
        model = build_network(default_config(settings, overrides)).eval()
        closed = half_of_the_cells(model.backbone.lattice) if self.gates == "half" else frozenset()
        force_gates(model.backbone, lambda edge: edge.source not in closed)
        if self.variant == "channels_last_folded":
            model = fold_batch_norms(model)
        image = random_image(self.size, device=model.device)
        return lambda: executed_gmadds(*predict(model, [image]))


def evaluation_cases(sizes: Sequence[Size]) -> list[EvaluationCase]:
    """Return all cases for images of the given (height, width)."""
    variants = ("contiguous", "channels_last", "channels_last_folded")
    return [EvaluationCase(*fields) for fields in product(sizes, ("open", "half"), variants, ("dense", "sparse"))]


def half_of_the_cells(lattice: Lattice) -> frozenset[Node]:
    """Return the cells to close, 29 of the 62 cells of a lattice with 16 layers.

    With layers counted from 0 after the source: every other cell, (layer + scale) even, of all layers between the first
    and the last, and the two finest of the last. Every cell is still reached.
    """
    last = lattice.num_layers - 1

    def is_closed(node: Node) -> bool:
        layer = node.layer - 1
        return (0 < layer < last and (layer + node.scale) % 2 == 0) or (layer == last and node.scale < 2)

    return frozenset(filter(is_closed, lattice.nodes))


def evaluation_table(
    timings: dict[EvaluationCase, Timing], memory: dict[EvaluationCase, Memory], *, matmul_rate: float
) -> Table:
    """Return one row per case; rows of sparse cases include the ratios to the dense case, if it was measured."""
    columns = {"size": "", "gates": "", "variant": "", "execution": "", "seconds": ".4f", "time ratio": ".3f"}
    columns |= {"cost ratio": ".3f", "GFLOPs": ".3f", "GMAC/s": ".1f", "matmul fraction": ".3f", "peak MiB": ".0f"}
    rows = []
    for case, timing in timings.items():
        seconds, ratios = timing.median_seconds, (None, None)
        dense = timings.get(replace(case, execution="dense"))
        if case.execution == "sparse" and dense is not None:
            ratios = seconds / dense.median_seconds, timing.gflops / dense.gflops
        rate = timing.gflops / seconds
        names = (case.group, case.gates, case.variant, case.execution)
        rows.append((*names, seconds, *ratios, timing.gflops, rate, rate / matmul_rate, memory[case].peak_mib))
    return Table("Evaluation, one image", columns, rows)


def measure(cases: Sequence[EvaluationCase], settings: Settings, *, rounds: int) -> Report:
    """Measure the memory and the time of the cases."""
    memory = {case: measure_memory(case, settings) for case in cases}
    matmul_rate = MachineRates.measure(settings).matmul
    timings = time_cases(cases, settings, rounds=rounds)
    idle_mib = max(one.idle_mib for one in memory.values())
    facts = describe_machine(settings) | {
        f"{MATMUL_SIDE}x{MATMUL_SIDE} float32 matrix product": f"{matmul_rate:.1f} GMAC/s",
        "network": " ".join(["default configuration", *settings.opts]),
    }
    notes = (
        f"Times are medians of {rounds} rounds in which the cases of one size are interleaved. GFLOPs are 1e9 executed "
        "multiply-adds per image, norms and ReLUs included; matmul fraction: GMAC/s divided by that of the matrix "
        f"product. Peak MiB: peak memory of a fresh process that runs the case twice, {idle_mib:.0f} of them before "
        "the network is built. Half: every other cell closed; closed cells still evaluate their gates. Ratios: sparse "
        "to dense execution, of the median times and of the GFLOPs."
    )
    table = evaluation_table({case: timings[case.name] for case in cases}, memory, matmul_rate=matmul_rate)
    return Report("Evaluation", facts, notes, [table], {name: timing.seconds for name, timing in timings.items()})


def main(argv: Sequence[str] | None = None) -> None:
    parser = benchmark_parser(
        "evaluation.py",
        description="Measure latency and memory of the default network (16 layers) in evaluation.",
        repeats=5,
        epilog="Case names: HEIGHTxWIDTH/{open,half}/{contiguous,channels_last,channels_last_folded}/{dense,sparse}.",
    )
    add, sizes = parser.add_argument, "512x1024,1024x2048"
    add("--sizes", type=comma_separated_sizes, default=sizes, metavar="HxW,HxW", help="(default: %(default)s)")
    add("--cases", type=comma_separated, default=["*"], metavar="PATTERNS", help="patterns of names (default: all)")
    add("opts", nargs="*", metavar="KEY=VALUE", help="overrides of the default configuration")
    arguments = parser.parse_intermixed_args(argv)
    by_name = {case.name: case for case in evaluation_cases(arguments.sizes)}
    for pattern in arguments.cases:
        if not fnmatch.filter(by_name, pattern):
            parser.error(f"--cases must match case names; {nearest_names(pattern, by_name)}. Received: {pattern}")
    cases = [c for n, c in by_name.items() if any(fnmatch.fnmatchcase(n, pattern) for pattern in arguments.cases)]
    with user_errors(parser.prog):
        report = measure(cases, start(arguments), rounds=arguments.repeats)
    report.write(arguments.output, "evaluation", document=arguments.document)


if __name__ == "__main__":
    main()
