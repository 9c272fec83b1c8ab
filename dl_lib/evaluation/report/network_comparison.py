"""Table and values of a comparison of two versions of a routed network."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from dl_lib.evaluation.report.formatting import format_gflops, format_table, gflops_decimals, write_measurements
from dl_lib.evaluation.report.records import UNITS, result_as_dict
from dl_lib.evaluation.scores.network_comparison import NetworkComparison, NetworkMeasurement
from dl_lib.utils.escaping import TABLE_ESCAPES, markdown_text
from dl_lib.utils.run_files import BEFORE_AFTER_STEM

__all__ = ["comparison_as_dict", "format_comparison", "write_comparison"]

_UNITS = {
    **UNITS,
    "peak_memory_bytes": "bytes of one forward pass in addition to weights and input, for the image with the highest "
    "real cost before",
    "edges": "open for some of the images",
    "learned_gates": "number of edges whose gate is computed from the image",
    "logits_difference": "largest absolute difference of an image's logits, relative to their largest absolute value",
    "label_difference": "ratio in [0, 1] of the pixels whose predicted class differs",
}
_MIB = 2**20


def format_comparison(comparison: NetworkComparison, *, style: str) -> str:
    """Format the table of a comparison with its legend, in a style of tabulate."""
    before, after = comparison.before, comparison.after
    rows = [*_score_rows(before, after), *_size_rows(before, after)]
    result = before.result
    legend = (
        f"{TABLE_ESCAPES[style](result.dataset_name)}, {result.num_images} images. GFLOPs: 1e9 multiply-adds, mean per "
        "image; real: as counted in the paper. Latency: model only, median over the images, on each of which both "
        "networks run in turn. Peak memory: one forward pass, without weights, for the most expensive image. "
        f"Predicted classes differ in {100 * comparison.label_difference:.3g} % of the pixels, logits by up to "
        f"{comparison.logits_difference:.2g} of the largest absolute logit of an image."
    )
    return f"{format_table(rows, headers=['', 'before', 'after', 'change'], style=style)}\n\n{legend}"


def comparison_as_dict(comparison: NetworkComparison, *, environment: Mapping[str, str]) -> dict[str, Any]:
    """Return the content of before_after.json, as plain values.

    Args:
        comparison: Measurements.
        environment: Device and versions that the latency was measured with.
    """
    return {
        "units": _UNITS,
        "dataset": comparison.before.result.dataset_name,
        "environment": dict(environment),
        "before": _as_dict(comparison.before),
        "after": _as_dict(comparison.after),
        "logits_difference": comparison.logits_difference,
        "label_difference": comparison.label_difference,
    }


def write_comparison(
    comparison: NetworkComparison, folder: Path, *, title: str, environment: Mapping[str, str]
) -> None:
    """Write before_after.json and before_after.md; see `comparison_as_dict`."""
    write_measurements(
        folder / BEFORE_AFTER_STEM,
        title=markdown_text(title),
        table=format_comparison(comparison, style="github"),
        values=comparison_as_dict(comparison, environment=environment),
        environment=environment,
    )


def _as_dict(measurement: NetworkMeasurement) -> dict[str, Any]:
    return {
        **result_as_dict(measurement.result),
        "parameters": measurement.parameters,
        "peak_memory_bytes": measurement.peak_memory_bytes,
        **_route_sizes(measurement),
    }


def _route_sizes(measurement: NetworkMeasurement) -> dict[str, int]:
    gates = list(measurement.route.gates.values())
    return {"cells": len(measurement.route.cells), "edges": len(gates), "learned_gates": gates.count(None)}


def _score_rows(before: NetworkMeasurement, after: NetworkMeasurement) -> list[list[str]]:
    old, new = before.result.metrics, after.result.metrics
    if old is None or new is None:
        return []
    scores = {
        "mIoU (%)": (old.mean_iou, new.mean_iou),
        "pixel accuracy (%)": (old.pixel_accuracy, new.pixel_accuracy),
    }
    return [
        [name, f"{100 * one:.2f}", f"{100 * other:.2f}", f"{100 * (other - one):+.2f}"]
        for name, (one, other) in scores.items()
    ]


def _size_rows(before: NetworkMeasurement, after: NetworkMeasurement) -> list[list[str]]:
    decimals = gflops_decimals(before.result)
    costs = [network.result.costs.average for network in (before, after)]
    sizes = [_route_sizes(network) for network in (before, after)]

    def gflops(madds: float) -> str:
        return format_gflops(madds, decimals)

    def whole(number: float) -> str:
        return f"{number:,.0f}"

    rows: dict[str, tuple[float, float, Callable[[float], str]]] = {
        "real GFLOPs": (costs[0].real, costs[1].real, gflops),
        "real complete GFLOPs": (costs[0].real_complete, costs[1].real_complete, gflops),
        "executed GFLOPs": (costs[0].executed, costs[1].executed, gflops),
        "latency (ms)": (1e3 * before.result.seconds_per_image, 1e3 * after.result.seconds_per_image, "{:.2f}".format),
        "peak memory (MiB)": (before.peak_memory_bytes / _MIB, after.peak_memory_bytes / _MIB, "{:.2f}".format),
        "parameters": (before.parameters, after.parameters, whole),
        **{name.replace("_", " "): (sizes[0][name], sizes[1][name], whole) for name in sizes[0]},
    }
    return [
        [name, to_text(one), to_text(other), f"{100 * (other / one - 1):+.1f} %"]
        for name, (one, other, to_text) in rows.items()
    ]
