"""What layers cost beside a plain convolution, as Markdown for people and as plain values for machines."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

from dl_lib.benchmark.layer_cases import KERNELS, LOOP_OF, STATIC, KernelName, LayerCase
from dl_lib.benchmark.measure import WARM_UP_ROUNDS, Timing
from dl_lib.benchmark.report import markdown_table

__all__ = ["format_layer_markdown", "layer_results_as_dict"]

LARGEST_DENSE_CHANNELS = 256  # of the shapes in the summary: above, kernels are larger than the maps they serve
_UNITS = {
    "seconds": "of one call, on the whole batch; median and all timed rounds",
    "gflops": "1e9 multiply-adds of one image's forward pass",
    "to_static": "median / that of the plain convolution of the same shape",
    "to_static_per_madd": "to_static / (gflops / those of the plain convolution)",
    "to_loop": "median / that of the same layer as a loop over the images",
}
_MISSING = ""
Timings = Mapping[LayerCase, Timing]


def layer_results_as_dict(timings: Timings, *, machine: Mapping[str, str]) -> dict[str, Any]:
    """What benchmark_layers.json holds.

    Args:
        timings: what was measured.
        machine: what it was measured on.
    """
    return {
        "machine": dict(machine),
        "units": _UNITS,
        "warm_up_rounds": WARM_UP_ROUNDS,
        "cases": {case.name: _case(case, timings) for case in timings},
    }


def _case(case: LayerCase, timings: Timings) -> dict[str, Any]:
    timing = timings[case]
    return {
        **dataclasses.asdict(case),
        "seconds": {"median": timing.median_seconds, "all": list(timing.seconds)},
        "gflops": timing.gflops,
        "to_static": _ratio(case, STATIC, timings),
        "to_static_per_madd": _ratio_per_madd(case, timings),
        "to_loop": _ratio(case, LOOP_OF[case.layer], timings) if case.layer in LOOP_OF else None,
    }


def _ratio(case: LayerCase, other: str, timings: Timings) -> float:
    return timings[case].median_seconds / timings[dataclasses.replace(case, layer=other)].median_seconds


def _ratio_per_madd(case: LayerCase, timings: Timings) -> float:
    madds = timings[case].gflops / timings[dataclasses.replace(case, layer=STATIC)].gflops
    return _ratio(case, STATIC, timings) / madds


def format_layer_markdown(timings: Timings, *, machine: Mapping[str, str]) -> str:
    """What is printed, and benchmark_layers.md holds; for the arguments see `layer_results_as_dict`."""
    head = [f"- {name}: {value}" for name, value in machine.items()]
    some = next(iter(timings))
    head.append(f"- maps: {'channels last' if some.channels_last else 'contiguous'}, float32")
    explanation = (
        f"Medians of {len(timings[some].seconds)} rounds in which the layers of one shape take turns, on the whole "
        "batch. Forward: in evaluation. Step: forward and backward, to the weights and to the maps. GFLOPs: 1e9 "
        "multiply-adds of one image, forward. Ratios are of the times: to the plain convolution of the same shape, and "
        "to the same layer as a loop over the images. Two rates: two plain convolutions, one of them dilated, and "
        "their sum, without which there is no switchable atrous one (sac). Per multiply-add: each time divided by its "
        "GFLOPs first."
    )
    parts = ["# Conditional convolutions", "\n".join(head), explanation, "## Steps, worst ratios", _summary(timings)]
    for kernel in KERNELS:
        parts += [f"## {kernel}", _kernel_table(kernel, timings)]
    return "\n\n".join(parts) + "\n"


def _summary(timings: Timings) -> str:
    steps = [case for case in timings if case.direction == "step"]
    rows = []
    for layer in dict.fromkeys(case.layer for case in steps if case.layer != STATIC):
        for images in dict.fromkeys(case.images for case in steps):
            mine = [case for case in steps if (case.layer, case.images) == (layer, images)]
            in_scope = [case for case in mine if _is_in_scope(case)]
            row = [layer, str(images)]
            for kernel in KERNELS:
                row.append(_worst(_ratio(case, STATIC, timings) for case in in_scope if case.kernel == kernel))
            row.append(_worst(_ratio_per_madd(case, timings) for case in in_scope))
            loop = LOOP_OF.get(layer)
            row.append(_MISSING if loop is None else _worst(_ratio(case, loop, timings) for case in mine))
            rows.append(row)
    names = {kernel: f"{kernel} / static" for kernel in KERNELS}
    names["dense 3x3"] = f"dense 3x3, up to {LARGEST_DENSE_CHANNELS} channels / static"
    headers = ["layer", "images", *names.values(), "these, per multiply-add / static", "all / loop"]
    return markdown_table(rows, headers=headers, num_names=1)


def _is_in_scope(case: LayerCase) -> bool:
    return case.kernel != "dense 3x3" or case.scale.channels <= LARGEST_DENSE_CHANNELS


def _worst(ratios: Iterable[float]) -> str:
    worst = max(ratios, default=None)
    return _MISSING if worst is None else f"{worst:.2f}"


def _kernel_table(kernel: KernelName, timings: Timings) -> str:
    rows = []
    for case in timings:
        if case.kernel == kernel and case.direction == "forward":
            row = [str(case.scale), str(case.images), case.layer, f"{timings[case].gflops:.4f}"]
            for directed in (case, dataclasses.replace(case, direction="step")):
                row.append(f"{1e3 * timings[directed].median_seconds:.2f}")
                row.append(f"{_ratio(directed, STATIC, timings):.2f}")
                loop = LOOP_OF.get(case.layer)
                row.append(_MISSING if loop is None else f"{_ratio(directed, loop, timings):.2f}")
            rows.append(row)
    names = ["maps", "images", "layer"]
    figures = ["forward ms", "/ static", "/ loop", "step ms", "/ static", "/ loop"]
    return markdown_table(rows, headers=[*names, "GFLOPs", *figures], num_names=len(names))
