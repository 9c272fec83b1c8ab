"""Route statistics in reports: tables, remarks, and the record in results.json."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from dl_lib.evaluation.report.formatting import format_gflops, format_table, gflops_decimals
from dl_lib.evaluation.scores.image_properties import IMAGE_PROPERTIES
from dl_lib.evaluation.scores.result import EvaluationResult
from dl_lib.evaluation.scores.routes import MIN_IMAGES, RouteStatistics, cell_open_ratios
from dl_lib.modeling.costs.costs import MADDS_PER_GFLOP
from dl_lib.modeling.costs.table import NetworkCosts
from dl_lib.modeling.dynamic.lattice import FINEST_STRIDE, Lattice
from dl_lib.modeling.dynamic.route import Route

__all__ = ["describe_route", "lattice_as_dict", "route_remarks", "route_tables", "routes_as_dict"]

_MOST_FREQUENT = 5  # routes that are reported individually
_PERCENTILES = {"min": "min", "p5": "5 %", "median": "median", "p95": "95 %", "max": "max"}
_UNDEFINED = "-"  # instead of a correlation


def describe_route(route: Route) -> str:
    """Return a sentence about a route that is a part of the lattice."""
    learned = [*route.gates.values()].count(None)
    gates = "the same for every image" if route.is_fixed else f"{learned} of them with learned gates"
    return f"Route: {len(route.gates)} of the {len(route.lattice.edges)} edges of the lattice, {gates}."


def route_tables(result: EvaluationResult, *, lattice: Lattice | None, style: str) -> list[str]:
    """Return the tables of a result's routes, including the cells if there is a lattice; none without statistics."""
    routes = result.reported_routes
    if routes is None:
        return []
    tables = [*_summary_tables(routes, decimals=gflops_decimals(result), style=style)]
    if lattice is not None:
        tables.append(_cell_table(result, lattice=lattice, style=style))
    if result.cost_correlations is not None:
        rows = [
            [IMAGE_PROPERTIES[name], _UNDEFINED if one.value is None else f"{one.value:+.2f}", str(one.images)]
            for name, one in result.cost_correlations.items()
        ]
        headers = ["property of the image", "rank correlation with cost", "images with the property"]
        tables.append(format_table(rows, headers=headers, style=style))
    return tables


def route_remarks(result: EvaluationResult) -> list[str]:
    """Return the sentences that explain the tables of `route_tables`."""
    routes = result.reported_routes
    if routes is None:
        return []
    remarks = [
        "Routes: an edge is open for an image if its gate value is above 0; the route of an image is the set of its "
        "open edges. The entropy is 0 bits if all images take one route, and "
        f"{math.log2(routes.num_images):.2f} bits if each of the {routes.num_images} images takes its own."
    ]
    if result.cost_correlations is not None:
        remarks.append(
            "Rank correlation (Spearman) of the real cost per pixel with properties of the label map: +1 if the cost "
            f"increases with the property, -1 if it decreases; {_UNDEFINED} if one of the two is constant, or if fewer "
            f"than {MIN_IMAGES} images have the property. Of n images, correlations within ±2/√n "
            f"(of {routes.num_images}: ±{2 / math.sqrt(routes.num_images):.2f}) are not significant at the 5 % level."
        )
    return remarks


def routes_as_dict(result: EvaluationResult, *, routes: RouteStatistics, lattice: Lattice) -> dict[str, Any]:
    """Return the statistics of a result's routes as plain values."""
    assert result.gates is not None, "routes are computed from gates"
    edges = [str(edge) for edge in lattice.edges]
    cells = cell_open_ratios(result.gates.numpy(), lattice=lattice)
    return {
        "edges": len(edges),
        "edges_always_open": routes.always_open,
        "edges_image_dependent": routes.image_dependent,
        "edges_always_closed": routes.always_closed,
        "image_dependent_over_ever_open": routes.dependent_ratio,
        "effectively_static": routes.is_static,
        "distinct_routes": len(routes.routes),
        "entropy_bits": routes.entropy_bits,
        "real_gflops": {name: madds / MADDS_PER_GFLOP for name, madds in routes.real_madds.items()},
        "cost_correlations": result.cost_correlations
        and {n: asdict(one) for n, one in result.cost_correlations.items()},
        "most_frequent": [
            {
                "route": number,
                "images": route.images,
                "avg_real_gflops": route.real_madds / MADDS_PER_GFLOP,
                "open_edges": [edges[column] for column in route.open_edges],
            }
            for number, route in enumerate(routes.routes[:_MOST_FREQUENT], 1)
        ],
        "edge_open_ratios": dict(zip(edges, routes.open_ratios, strict=True)),
        "cell_open_ratios": {str(node): ratio for node, ratio in cells.items()},
    }


def lattice_as_dict(costs: NetworkCosts, *, size: tuple[int, int]) -> dict[str, Any]:
    """Return the costs and tensor shapes of the parts of the lattice for an image of a size, as plain values.

    Args:
        costs: Cost tables of the network.
        size: Height and width in pixels before padding.
    """
    table = costs.table(*size)
    lattice, (height, width) = table.lattice, costs.padded_size(*size)
    return {
        "input_size": [height, width],
        "cells_gflops": {str(node): madds / MADDS_PER_GFLOP for node, madds in table.operations.items()},
        "gates_gflops": {str(node): madds / MADDS_PER_GFLOP for node, madds in table.gates.items()},
        "transitions_gflops": {str(edge): madds / MADDS_PER_GFLOP for edge, madds in table.transitions.items()},
        "shapes": {
            str(node): [costs.channels(node), height // node.stride, width // node.stride]
            for node in (*lattice.nodes, *lattice.outputs)
        },
    }


def _summary_tables(routes: RouteStatistics, *, decimals: int, style: str) -> Iterator[str]:
    summary = [
        ["edges open for every image", str(routes.always_open)],
        ["edges open for some of the images", str(routes.image_dependent)],
        ["edges closed for every image", str(routes.always_closed)],
        ["distinct routes", str(len(routes.routes))],
        ["entropy of the routes (bits)", f"{routes.entropy_bits:.2f}"],
    ]
    yield format_table(summary, headers=["routing", "number"], style=style)
    costs = [[format_gflops(routes.real_madds[name], decimals) for name in _PERCENTILES]]
    yield format_table(costs, headers=[f"real GFLOPs, {label}" for label in _PERCENTILES.values()], style=style)
    frequent = [
        [
            *(f"route {number}", _percent(route.images / routes.num_images)),
            *(str(len(route.open_edges)), format_gflops(route.real_madds, decimals)),
        ]
        for number, route in enumerate(routes.routes[:_MOST_FREQUENT], 1)
    ]
    headers = ["most frequent routes", "images (%)", "open edges", "real GFLOPs, avg"]
    yield format_table(frequent, headers=headers, style=style)


def _cell_table(result: EvaluationResult, *, lattice: Lattice, style: str) -> str:
    """Return a table like the lattice: a row for each scale, a column for each layer."""
    assert result.gates is not None, "routes are computed from gates"
    ratios = {
        (node.scale, node.layer): _percent(ratio)
        for node, ratio in cell_open_ratios(result.gates.numpy(), lattice=lattice).items()
    }
    rows = [
        [f"stride {FINEST_STRIDE << scale}", *(ratios.get((scale, layer), "") for layer in range(len(lattice.layers)))]
        for scale in range(max(lattice.cells_per_layer))
    ]
    headers = ["images that open the cell (%), by layer", *map(str, range(len(lattice.layers)))]
    return format_table(rows, headers=headers, style=style)


def _percent(ratio: float) -> str:
    """Format a ratio of the images in percent; only those of none and of all images have no decimals."""
    return f"{100 * ratio:.0f}" if ratio in (0, 1) else f"{100 * ratio:.1f}"
