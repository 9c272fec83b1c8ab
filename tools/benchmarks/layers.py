"""Latency of the conditional convolutions, compared with a plain convolution of the same shape.

Run `python tools/benchmarks/layers.py --help`.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

import torch
from harness import SEED, Case, Run, Settings, Timing, benchmark_parser, start, time_cases
from report import Report, Table, describe_machine
from torch import Tensor, nn

from dl_lib.cli.arg_types import comma_separated, positive_int
from dl_lib.cli.errors import user_errors
from dl_lib.layers import CondConv2d, ConvAWS2d, DynamicConv2d, SAConv2d, SPConv2d
from dl_lib.layers.depthwise import DilatedConv2d
from dl_lib.layers.sac import LARGE_RATE
from dl_lib.modeling.costs.counters import MaddsObserver

LARGEST_DENSE_CHANNELS = 256  # in the summary: above, kernels are larger than the feature maps
NOTES = """\
Medians of {rounds} rounds in which the layers of one shape are interleaved, for the whole batch. Forward: evaluation \
mode. Step: forward and backward, to the weights and to the input. GFLOPs: 1e9 multiply-adds of one image, forward. \
Ratios are those of the median times: to the plain convolution of the same shape (static), and to the same layer as a \
loop over the images (loop). Two rates: sum of two plain convolutions, one of them dilated, a lower bound for \
switchable atrous convolution (sac). Per multiply-add: each time divided by its GFLOPs first."""


Shape = tuple[int, int, int]  # (channels, height, width) of feature maps


class TwoRates(nn.Module):
    """Sum of two plain convolutions, one of them dilated: a lower bound of switchable atrous convolution."""

    def __init__(self, channels: int, out_channels: int, kernel_size: int, *, padding: int, **options: Any) -> None:
        super().__init__()
        self.small, self.large = (
            DilatedConv2d(channels, out_channels, kernel_size, padding=rate * padding, dilation=rate, **options)
            for rate in (1, LARGE_RATE)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.small(x) + self.large(x)


LAYERS: Mapping[str, Callable[..., nn.Module]] = {
    "static": nn.Conv2d,
    "cond": CondConv2d,
    "cond loop": lambda *shape, **options: CondConv2d(*shape, **options, implementation="loop"),
    "dynamic": DynamicConv2d,
    "dynamic loop": lambda *shape, **options: DynamicConv2d(*shape, **options, implementation="loop"),
    "aws": ConvAWS2d,
    "two rates": TwoRates,
    "sac": SAConv2d,
    "split": lambda *shape, groups, **options: SPConv2d(*shape, **options),
}
# Layers that do not exist with a kernel.
ABSENT = {"dense 3x3": (), "depthwise 3x3": ("split",), "1x1": ("two rates", "sac", "split")}


@dataclass(frozen=True)
class LayerCase(Case):
    """One layer on one batch of feature maps."""

    layer: str  # in LAYERS
    kernel: str  # in ABSENT
    shape: Shape
    images: int
    direction: str  # forward in evaluation mode, or step: forward and backward, to the weights and to the input
    channels_last: bool = False

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
        layer = self._build(settings.device).train(self.direction == "step")
        order = torch.channels_last if self.channels_last else torch.contiguous_format
        x = torch.randn(self.images, *self.shape, device=settings.device).contiguous(memory_format=order)
        gradient = torch.randn_like(x)  # all layers keep the shape
        with MaddsObserver(self.images) as observer:
            self._build("meta")(torch.empty(x.shape, device="meta"))
        gflops = observer.madds[0] / 1e9

        def forward() -> float:
            with torch.inference_mode():
                layer(x)
            return gflops

        def step() -> float:
            x.grad = None
            layer.zero_grad()
            layer(x).backward(gradient)
            return gflops

        x.requires_grad_(self.direction == "step")
        return step if self.direction == "step" else forward

    def _build(self, device: str) -> nn.Module:
        channels, kernel_size = self.shape[0], 1 if self.kernel == "1x1" else 3
        groups = channels if self.kernel == "depthwise 3x3" else 1
        options = {"padding": kernel_size // 2, "groups": groups, "bias": False, "device": device}
        return LAYERS[self.layer](channels, channels, kernel_size, **options)


def layer_cases(shapes: Sequence[Shape], *, images: Sequence[int], channels_last: bool = False) -> list[LayerCase]:
    """Return the cases of all kernels, layers that support them, shapes, batch sizes and directions."""
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


def ratio(case: LayerCase, other: str, timings: Timings, *, per_madd: bool = False) -> float | None:
    """Return the ratio of the time (or time per GFLOP) to that of another layer of the same shape, if measured."""
    reference = timings.get(replace(case, layer=other))
    if reference is None:
        return None
    times = timings[case].median_seconds / reference.median_seconds
    return times * reference.gflops / timings[case].gflops if per_madd else times


def summary_table(title: str, timings: Timings, reduce: Callable[[Iterable[float]], float]) -> Table:
    """Return the ratios of training steps by layer and batch size, reduced over the shapes by `max` or `median`."""

    def reduced(ratios: Iterable[float | None]) -> float | None:
        known = [value for value in ratios if value is not None]
        return reduce(known) if known else None

    rows = []
    layers = list(dict.fromkeys(case.layer for case in timings if case.layer != "static"))
    for layer, images in ((name, n) for name in layers for n in dict.fromkeys(case.images for case in timings)):
        steps = [c for c in timings if (c.layer, c.images, c.direction) == (layer, images, "step")]
        scope = [c for c in steps if c.kernel != "dense 3x3" or c.shape[0] <= LARGEST_DENSE_CHANNELS]
        by_kernel = [reduced(ratio(c, "static", timings) for c in scope if c.kernel == kernel) for kernel in ABSENT]
        per_madd = reduced(ratio(c, "static", timings, per_madd=True) for c in scope)
        rows.append((layer, images, *by_kernel, per_madd, reduced(ratio(c, f"{layer} loop", timings) for c in steps)))
    kernels = [f"dense 3x3, up to {LARGEST_DENSE_CHANNELS} channels", "depthwise 3x3", "1x1", "these, per multiply-add"]
    columns = dict.fromkeys([*(f"{name} / static" for name in kernels), "all / loop"], ".2f")
    return Table(title, {"layer": "", "images": "d", **columns}, rows)


def kernel_table(kernel: str, timings: Timings) -> Table:
    """Return all cases of a kernel, forward and step in one row."""
    rows = []
    for case in timings:
        if case.kernel == kernel and case.direction == "forward":
            figures = []
            for directed in (case, replace(case, direction="step")):
                ratios = [ratio(directed, other, timings) for other in ("static", f"{case.layer} loop")]
                figures += [1e3 * timings[directed].median_seconds, *ratios]
            rows.append((case.maps, case.images, case.layer, timings[case].gflops, *figures))
    names = [f"{direction} {column}" for direction in ("forward", "step") for column in ("ms", "/ static", "/ loop")]
    columns = {"maps": "", "images": "d", "layer": "", "GFLOPs": ".4f", **dict.fromkeys(names, ".2f")}
    return Table(kernel, columns, rows, detail=True)


def layer_report(timings: Timings, *, facts: Mapping[str, str]) -> Report:
    """Return worst and median ratios of training steps, and the tables of all cases."""
    some = next(iter(timings))
    order = "channels last" if some.channels_last else "contiguous"
    tables = [
        summary_table("Training steps, worst ratios", timings, max),
        summary_table("Training steps, median ratios", timings, median),
        *(kernel_table(kernel, timings) for kernel in ABSENT),
    ]
    notes = NOTES.format(rounds=len(timings[some].seconds))
    samples = {case.name: timing.seconds for case, timing in timings.items()}
    return Report("Conditional convolutions", {**facts, "maps": f"{order}, float32"}, notes, tables, samples)


def main(argv: Sequence[str] | None = None) -> None:
    description = "Measure conditional convolutions against plain ones of the same shape, forward and backward."
    parser = benchmark_parser("layers.py", description=description, repeats=9)
    add, shapes = parser.add_argument, "64x64x128,128x32x64,256x16x32,512x8x16"
    add("--shapes", type=_shapes, default=shapes, metavar="CxHxW,CxHxW", help="of feature maps (default: %(default)s)")
    add("--images", type=_counts, default="1,8,16", metavar="N,N", help="in a batch (default: %(default)s)")
    add("--channels-last", action="store_true", help="memory order of the feature maps")
    arguments = parser.parse_args(argv)
    cases = layer_cases(arguments.shapes, images=arguments.images, channels_last=arguments.channels_last)
    with user_errors(parser.prog):
        settings = start(arguments)
        timings = time_cases(cases, settings, rounds=arguments.repeats)
        report = layer_report({case: timings[case.name] for case in cases}, facts=describe_machine(settings))
    report.write(arguments.output, "layers", document=arguments.document)


def _counts(text: str) -> list[int]:
    return [positive_int(word) for word in comma_separated(text)]


def _shapes(text: str) -> list[Shape]:
    matches = [re.fullmatch(r"([1-9]\d*)x([1-9]\d*)x([1-9]\d*)", word) for word in comma_separated(text)]
    if not all(matches):
        raise argparse.ArgumentTypeError(f"expected CHANNELSxHEIGHTxWIDTH, such as 64x64x128,8x2x2. Received: {text}")
    return [(int(match[1]), int(match[2]), int(match[3])) for match in matches if match]


if __name__ == "__main__":
    main()
