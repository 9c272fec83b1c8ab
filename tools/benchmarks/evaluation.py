"""Latency and memory of the default network in evaluation: dense and sparse execution, memory orders, folded norms.

Run `python tools/benchmarks/evaluation.py --help`.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, Literal

import torch
from harness import SEED, Case, Memory, Run, Settings, Timing, benchmark_parser, measure_memory, start, time_cases
from report import Report, Table, describe_machine
from torch import Tensor, nn
from torch.utils.benchmark import Timer

from dl_lib.cli.arg_types import comma_separated, comma_separated_sizes
from dl_lib.cli.errors import user_errors
from dl_lib.config import CfgNode, ConfigError, apply_overrides, get_cfg
from dl_lib.inference import fold_batch_norms
from dl_lib.modeling import DynamicNet4Seg, build_model
from dl_lib.modeling.costs.costs import MADDS_PER_GFLOP, Costs
from dl_lib.modeling.dynamic.lattice import Lattice, Node
from dl_lib.utils.names import nearest_names

GATE_BIAS = 20.0  # its tanh is 1 in float32
MATMUL_SIDE = 2048

Size = tuple[int, int]


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
        set_gates(model, closed=half_of_the_cells(model.backbone.lattice) if self.gates == "half" else ())
        if self.variant == "channels_last_folded":
            model = fold_batch_norms(model)
        inputs = [{"image": random_image(self.size, device=model.device)}]

        def run() -> float:
            with torch.inference_mode():
                (output,) = model(inputs)
            return Costs.from_flops_dict(output["flops"]).executed / MADDS_PER_GFLOP

        return run


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


@torch.no_grad()
def set_gates(model: DynamicNet4Seg, *, closed: Collection[Node]) -> None:
    """Fix every gate at 1, or at 0 in closed cells, for all images; gates are still evaluated."""
    for node in model.backbone.lattice.nodes:
        gate = model.backbone.cell(node).gate
        assert gate is not None and gate.predict.bias is not None
        nn.init.zeros_(gate.predict.weight)
        nn.init.constant_(gate.predict.bias, -GATE_BIAS if node in closed else GATE_BIAS)


def default_config(settings: Settings, overrides: Sequence[Any]) -> CfgNode:
    """Return the default configuration with the overrides and the device of the settings."""
    cfg = get_cfg()
    apply_overrides(cfg, settings.opts)
    cfg.merge_from_list(["MODEL.DEVICE", settings.device, *overrides])
    if not cfg.MODEL.GATE.GATE_ON:
        raise ConfigError("MODEL.GATE.GATE_ON must be True, as the benchmark sets gates. Received: GATE_ON=False")
    return cfg


def build_network(cfg: CfgNode) -> DynamicNet4Seg:
    """Build the network; parameters of equal shape have equal weights in all cases."""
    torch.manual_seed(SEED)
    model = build_model(cfg)
    assert isinstance(model, DynamicNet4Seg)
    return model


def random_image(size: Size, *, device: torch.device) -> Tensor:
    """Return a (3, height, width) float image with values 0..255."""
    return torch.randint(256, (3, *size), device=device).float()


def matmul_gmadds_per_second(settings: Settings) -> float:
    """Return the rate of a product of two square float32 matrices, the reference for networks."""
    a, b = torch.rand(2, MATMUL_SIDE, MATMUL_SIDE, device=settings.device)
    timer = Timer("torch.mm(a, b)", globals={"torch": torch, "a": a, "b": b}, num_threads=torch.get_num_threads())
    return MATMUL_SIDE**3 / 1e9 / timer.blocked_autorange(min_run_time=2).median


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
    matmul_rate = matmul_gmadds_per_second(settings)
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
