"""Routing of the report: lattice with the gates of an image or their mean, table of the edges, and route statistics."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dl_lib.evaluation.report.gates_file import ImageGates
from dl_lib.evaluation.report.results_file import MAX_SCORE, is_plausible
from dl_lib.evaluation.scores.image_properties import IMAGE_PROPERTIES
from dl_lib.modeling.dynamic.lattice import Edge
from dl_lib.utils.escaping import csv_text
from dl_lib.web.pages.lattice import lattice_svg
from dl_lib.web.report.run_data import DatasetResult
from dl_lib.web.report.values import MISSING, compact, entries, number, percent

__all__ = ["route_values", "routed_images", "routing_of"]

_DECIMALS = 3  # of gate values


def routing_of(result: DatasetResult, *, run: str) -> dict[str, Any] | None:
    """Return the lattice with mean gates, its edges and the route statistics; None without the gates of the images."""
    gates = result.gates
    if gates is None:
        return None
    mean = gates.gates.mean(axis=0).tolist()
    return {
        "svg": lattice_svg(gates.lattice, gates=mean, label=f"Lattice of {run} with the mean gate of each edge"),
        "edge_columns": ("edge", "mean gate", "open (% of images)", "transition (GFLOPs)", "tensor after it"),
        "edges": [
            (str(edge), f"{gate:.{_DECIMALS}f}", percent(ratio), _cost(result, edge), _shape(result, edge))
            for edge, gate, ratio in zip(gates.lattice.edges, mean, _open_ratios(gates), strict=True)
        ],
        "statistics": _statistics(result, gates),
    }


def route_values(result: DatasetResult, image_ids: Sequence[str]) -> dict[str, Any]:
    """Return names, notes and mean gates of the edges, and their gates in each image, as JSON values.

    Args:
        result: Evaluation on one dataset.
        image_ids: Images as in per_image.csv; an image that was not evaluated has no gates.
    """
    gates = result.gates
    if gates is None:
        return {}
    rows = {name: row for row, name in enumerate(routed_images(result))}
    return {
        "edges": list(map(str, gates.lattice.edges)),
        "notes": [
            f"open for {percent(ratio)} % of the images\n"
            f"transition: {_cost(result, edge)} GFLOPs, to a tensor of {_shape(result, edge)}"
            for edge, ratio in zip(gates.lattice.edges, _open_ratios(gates), strict=True)
        ],
        "mean": gates.gates.mean(axis=0).tolist(),
        "gates": [gates.gates[rows[name]].round(_DECIMALS).tolist() if name in rows else None for name in image_ids],
    }


def routed_images(result: DatasetResult) -> list[str]:
    """Return the names of the images with known gates, as in per_image.csv."""
    return [] if result.gates is None else list(map(csv_text, result.gates.image_ids))


def _open_ratios(gates: ImageGates) -> list[float]:
    return (gates.gates > 0).mean(axis=0).tolist()


def _cost(result: DatasetResult, edge: Edge) -> str:
    """Return the GFLOPs of a transition for one image."""
    return compact(number(result.values, "lattice", "transitions_gflops", str(edge)))


def _shape(result: DatasetResult, edge: Edge) -> str:
    """Return the shape of the tensor that an edge delivers, as channels x height x width."""
    shape = entries(result.values, "lattice", "shapes").get(str(edge.target))
    return "x".join(map(str, shape)) if isinstance(shape, list) and all(map(is_plausible, shape)) else MISSING


def _statistics(result: DatasetResult, gates: ImageGates) -> list[tuple[str, str]]:
    routes = result.values.get("routes")
    is_open = gates.gates > 0
    always, ever = is_open.all(axis=0), is_open.any(axis=0)
    rows = [
        ("edges open for every image", str(always.sum())),
        ("edges open for some of the images", str((ever & ~always).sum())),
        ("edges closed for every image", str((~ever).sum())),
        ("distinct routes", compact(number(routes, "distinct_routes"))),
        ("entropy of the routes", compact(number(routes, "entropy_bits"), unit="bits")),
    ]
    for name, label in {"min": "minimum", "median": "median", "max": "maximum"}.items():
        rows.append((f"real cost, {label}", compact(number(routes, "real_gflops", name), unit="GFLOPs")))
    for name, label in IMAGE_PROPERTIES.items():
        value = number(routes, "cost_correlations", name, "value", low=-MAX_SCORE)
        rows.append((f"rank correlation of cost with {label}", MISSING if value is None else f"{value:+.2f}"))
    return rows
