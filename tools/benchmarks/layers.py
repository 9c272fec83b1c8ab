"""Latency of the conditional convolutions, compared with a plain convolution of the same shape.

python tools/benchmarks/layers.py --threads 1 --allocator tuned --repeats 21 --document docs/zoo/layers.md
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Any, Literal

import torch
from harness import Case, Run, Settings, Timing, add_case_option, benchmark_parser, choose, start, time_cases
from report import Report, Table, describe_machine
from torch import Tensor, nn

from dl_lib.cli.arg_types import comma_separated, positive_int
from dl_lib.cli.errors import user_errors
from dl_lib.layers import CondConv2d, ConvAWS2d, DynamicConv2d, SAConv2d, SPConv2d
from dl_lib.layers.depthwise import DilatedConv2d
from dl_lib.layers.sac import LARGE_RATE
from dl_lib.modeling.costs.counters import MaddsObserver

SEED = 0
STATIC = "static"
LOOP_OF: Mapping[str, str] = {"cond": "cond loop", "dynamic": "dynamic loop"}
LARGEST_DENSE_CHANNELS = 256  # in the summary: above, kernels are larger than the feature maps
NOTES = """\
Medians of {rounds} rounds in which the layers of one shape are interleaved, for the whole batch. Forward: evaluation \
mode. Step: forward and backward, to the weights and to the input. GFLOPs: 1e9 multiply-adds of one image, forward. \
Ratios are those of the median times: to the plain convolution of the same shape (static), and to the same layer as a \
loop over the images (loop). Two rates: sum of two plain convolutions, one of them dilated, a lower bound for \
switchable atrous convolution (sac). Per multiply-add: each time divided by its GFLOPs first."""


class TwoRates(nn.Module):
    """Sum of two plain convolutions, one of them dilated: the least that switchable atrous convolution computes.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        kernel_size: Kernel size of both.
        padding: Padding of the convolution without dilation.
        options: Further arguments of both, as of `nn.Conv2d`.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, *, padding: int, **options: Any) -> None:
        super().__init__()
        self.convs = nn.ModuleList(
            DilatedConv2d(in_channels, out_channels, kernel_size, padding=rate * padding, dilation=rate, **options)
            for rate in (1, LARGE_RATE)
        )

    def forward(self, x: Tensor) -> Tensor:
        small, large = self.convs
        y: Tensor = small(x) + large(x)
        return y


LAYERS: Mapping[str, Callable[..., nn.Module]] = {
    STATIC: nn.Conv2d,
    "cond": CondConv2d,
    "cond loop": lambda *shape, **options: CondConv2d(*shape, **options, implementation="loop"),
    "dynamic": DynamicConv2d,
    "dynamic loop": lambda *shape, **options: DynamicConv2d(*shape, **options, implementation="loop"),
    "aws": ConvAWS2d,
    "two rates": TwoRates,
    "sac": SAConv2d,
    "split": lambda *shape, groups, **options: SPConv2d(*shape, **options),
}
KernelName = Literal["dense 3x3", "depthwise 3x3", "1x1"]
ABSENT: Mapping[KernelName, tuple[str, ...]] = {
    "dense 3x3": (),
    "depthwise 3x3": ("split",),
    "1x1": ("two rates", "sac", "split"),
}


@dataclass(frozen=True)
class LayerCase(Case):
    """One layer on one batch of feature maps.

    Attributes:
        layer: Name in `LAYERS`.
        kernel: Name in `ABSENT`.
        shape: (channels, height, width) of the feature maps.
        images: Batch size.
        direction: `forward` in evaluation mode, or `step`: forward and backward, to the weights and to the input.
        channels_last: Memory order of the feature maps.
    """

    layer: str
    kernel: KernelName
    shape: tuple[int, int, int]
    images: int
    direction: Literal["forward", "step"]
    channels_last: bool

    @property
    def name(self) -> str:
        return f"{self.group}/{self.layer}"

    @property
    def group(self) -> str:
        return f"{self.direction}/{self.kernel}/{self.maps}/{self.images}"

    @property
    def maps(self) -> str:
        return "x".join(map(str, self.shape))

    def prepare(self, settings: Settings) -> Run:
        torch.manual_seed(SEED)
        layer = self._build(settings.device)
        order = torch.channels_last if self.channels_last else torch.contiguous_format
        x = torch.randn(self.images, *self.shape, device=settings.device).contiguous(memory_format=order)
        with MaddsObserver(self.images) as observer:
            self._build("meta")(torch.empty(x.shape, device="meta"))
        gflops = observer.madds[0] / 1e9
        call = _forward(layer, x) if self.direction == "forward" else _step(layer, x)

        def run() -> float:
            call()
            return gflops

        return run

    def _build(self, device: str) -> nn.Module:
        channels, kernel_size = self.shape[0], 1 if self.kernel == "1x1" else 3
        groups = channels if self.kernel == "depthwise 3x3" else 1
        options = {"padding": kernel_size // 2, "groups": groups, "bias": False, "device": device}
        return LAYERS[self.layer](channels, channels, kernel_size, **options)


def _forward(layer: nn.Module, x: Tensor) -> Callable[[], None]:
    layer.eval()

    def call() -> None:
        with torch.inference_mode():
            layer(x)

    return call


def _step(layer: nn.Module, x: Tensor) -> Callable[[], None]:
    gradient = torch.randn_like(x)  # all layers keep the shape
    x.requires_grad_()

    def call() -> None:
        x.grad = None
        layer.zero_grad()
        layer(x).backward(gradient)

    return call


def layer_cases(
    shapes: Sequence[tuple[int, int, int]], *, images: Sequence[int], channels_last: bool = False
) -> list[LayerCase]:
    """Return the cases of all layers that exist for a kernel, for all kernels, shapes, batch sizes and directions."""
    return [
        LayerCase(layer, kernel, shape, count, direction, channels_last)
        for kernel, absent in ABSENT.items()
        for shape in shapes
        for count in images
        for direction in ("forward", "step")
        for layer in LAYERS
        if layer not in absent
    ]


Timings = Mapping[LayerCase, Timing]


def ratio(case: LayerCase, other: str | None, timings: Timings) -> float | None:
    """Return the time of a case divided by that of another layer of the same shape, if that was measured."""
    reference = timings.get(replace(case, layer=other)) if other is not None else None
    return None if reference is None else timings[case].median_seconds / reference.median_seconds


def ratio_per_madd(case: LayerCase, timings: Timings) -> float | None:
    """Return the ratio to the plain convolution, each time divided by the layer's GFLOPs."""
    to_static = ratio(case, STATIC, timings)
    if to_static is None:
        return None
    return to_static * timings[replace(case, layer=STATIC)].gflops / timings[case].gflops


def summary_table(timings: Timings, *, title: str, reduce: Callable[[Iterable[float]], float]) -> Table:
    """Return the ratios of training steps, reduced over the shapes, by layer and batch size.

    Args:
        timings: Measured cases.
        title: Heading.
        reduce: Function from the ratios of several shapes to one, such as `max`.
    """

    def reduced(ratios: Iterable[float | None]) -> float | None:
        known = [value for value in ratios if value is not None]
        return reduce(known) if known else None

    steps = [case for case in timings if case.direction == "step"]
    rows = []
    for layer, images in dict.fromkeys((case.layer, case.images) for case in steps if case.layer != STATIC):
        own = [case for case in steps if (case.layer, case.images) == (layer, images)]
        in_scope = [case for case in own if case.kernel != "dense 3x3" or case.shape[0] <= LARGEST_DENSE_CHANNELS]
        by_kernel = [reduced(ratio(case, STATIC, timings) for case in in_scope if case.kernel == k) for k in ABSENT]
        per_madd = reduced(ratio_per_madd(case, timings) for case in in_scope)
        rows.append((layer, images, *by_kernel, per_madd, reduced(ratio(c, LOOP_OF.get(layer), timings) for c in own)))
    rows.sort(key=lambda row: list(LAYERS).index(row[0]))
    names = {f"dense 3x3, up to {LARGEST_DENSE_CHANNELS} channels / static": ".2f"}
    names |= {f"{kernel} / static": ".2f" for kernel in list(ABSENT)[1:]}
    names |= {"these, per multiply-add / static": ".2f", "all / loop": ".2f"}
    return Table(title, {"layer": "", "images": "d", **names}, rows)


def kernel_table(kernel: KernelName, timings: Timings) -> Table:
    """Return all cases of a kernel, forward and step in one row."""
    columns = {"maps": "", "images": "d", "layer": "", "GFLOPs": ".4f"}
    for direction in ("forward", "step"):
        columns |= {f"{direction} ms": ".2f", f"{direction} / static": ".2f", f"{direction} / loop": ".2f"}
    rows = []
    for case in dict.fromkeys(replace(case, direction="forward") for case in timings if case.kernel == kernel):
        figures: list[float | None] = []
        gflops = None
        for directed in (case, replace(case, direction="step")):
            if directed in timings:
                gflops = timings[directed].gflops
                ratios = (ratio(directed, other, timings) for other in (STATIC, LOOP_OF.get(case.layer)))
                figures += [1e3 * timings[directed].median_seconds, *ratios]
            else:
                figures += [None] * 3
        rows.append((case.maps, case.images, case.layer, gflops, *figures))
    return Table(kernel, columns, rows, detail=True)


def layer_report(timings: Timings, *, facts: Mapping[str, str]) -> Report:
    """Return the report: worst and median ratios of training steps, and the detail tables."""
    some = next(iter(timings))
    order = "channels last" if some.channels_last else "contiguous"
    tables = [
        summary_table(timings, title="Training steps, worst ratios", reduce=max),
        summary_table(timings, title="Training steps, median ratios", reduce=median),
        *(kernel_table(kernel, timings) for kernel in ABSENT),
    ]
    notes = NOTES.format(rounds=len(timings[some].seconds))
    samples = {case.name: timing.seconds for case, timing in timings.items()}
    return Report("Conditional convolutions", {**facts, "maps": f"{order}, float32"}, notes, tables, samples)


def main(argv: Sequence[str] | None = None) -> None:
    parser = benchmark_parser(
        "layers.py",
        description="Measure conditional convolutions against plain ones of the same shape, forward and backward.",
        repeats=9,
        epilog="case names: {forward,step}/{dense 3x3,depthwise 3x3,1x1}/CxHxW/IMAGES/LAYER",
    )
    shapes = {"type": _shapes, "default": "64x64x128,128x32x64,256x16x32,512x8x16", "metavar": "CxHxW,CxHxW"}
    parser.add_argument("--shapes", **shapes, help="of the feature maps (default: %(default)s)")
    parser.add_argument("--images", type=_counts, default="1,8,16", metavar="N,N", help="in a batch (default: 1,8,16)")
    parser.add_argument("--channels-last", action="store_true", help="memory order of the feature maps")
    add_case_option(parser)
    arguments = parser.parse_args(argv)
    with user_errors(parser.prog):
        settings = start(parser, arguments)
        cases = layer_cases(arguments.shapes, images=arguments.images, channels_last=arguments.channels_last)
        cases = choose(cases, arguments.cases, parser=parser)
        by_name = time_cases(cases, settings, rounds=arguments.repeats)
        timings = {case: by_name[case.name] for case in cases}
        report = layer_report(timings, facts=describe_machine(settings.device))
    report.write(arguments.output, "layers", document=arguments.document)


def _counts(text: str) -> list[int]:
    return [positive_int(word) for word in comma_separated(text)]


def _shapes(text: str) -> list[tuple[int, int, int]]:
    matches = [re.fullmatch(r"([1-9]\d*)x([1-9]\d*)x([1-9]\d*)", word) for word in comma_separated(text)]
    if not all(matches):
        raise argparse.ArgumentTypeError(f"expected CHANNELSxHEIGHTxWIDTH, such as 64x64x128,8x2x2. Received: {text}")
    return [(int(match[1]), int(match[2]), int(match[3])) for match in matches if match]


if __name__ == "__main__":
    main()
