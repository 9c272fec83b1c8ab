"""Routes of a trained model for its images, and the weights that remain on them.

`frequent_route` gives the networks "Common" of the paper (arXiv 2003.10401, section 4.2); `specialized_route` removes
what no image of a dataset uses and fixes what all of them use alike, as Brainstorm does (OSDI 2023).

Shape suffixes: N images, E edges of the lattice.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from dl_lib.modeling.dynamic.gate import SoftmaxGate
from dl_lib.modeling.dynamic.lattice import Edge, Lattice, Node
from dl_lib.modeling.dynamic.network import DynamicNetwork
from dl_lib.modeling.dynamic.route import CLOSED_BELOW, Route
from dl_lib.modeling.dynamic.routing import Routing, Unreached, delivering
from dl_lib.modeling.meta_arch.dynamic4seg import DynamicNet4Seg

__all__ = ["FixedValues", "frequent_route", "route_state_dict", "specialized_route", "with_fixed_values"]

FixedValues = Literal["mean", "one"]
_DIGITS = 6  # of a fixed gate value
_NOISE = 1e-6  # largest difference of gate values that count as equal

_CELLS = "backbone.cells."


def frequent_route(lattice: Lattice, gates_NE: Tensor, *, keep: float, values: FixedValues) -> Route:
    """Return the fixed route of the edges that are open for more than a ratio of the images.

    Edges whose cell is not reached by such edges are omitted. A reached cell without such an edge passes its input on.

    Args:
        lattice: Lattice of the network.
        gates_NE: Gate values, columns in the order of `lattice.edges`.
        keep: Ratio in [0, 1).
        values: Fixed gate values: `mean` over the images, closed ones included, at least `CLOSED_BELOW`; or `one`.
    """
    ratios = (gates_NE > 0).double().mean(dim=0).tolist()
    frequent: dict[Edge, float | None] = {
        edge: 1.0 if values == "one" else max(CLOSED_BELOW, mean)
        for edge, ratio, mean in zip(lattice.edges, ratios, _means(gates_NE), strict=True)
        if ratio > keep
    }
    return Route.connected(lattice, frequent)


def with_fixed_values(route: Route, gates_NE: Tensor | None) -> Route:
    """Return a fixed route with the edges of a route; values other than 1 stay as they are.

    Args:
        route: Route whose learned gates, and whose gates with the value 1, get values.
        gates_NE: Gate values whose means the edges get, columns in the order of the lattice's edges; None for 1.

    Raises:
        ValueError: If the mean gate value of an edge is below `CLOSED_BELOW`.
    """
    means = None if gates_NE is None else dict(zip(route.lattice.edges, _means(gates_NE), strict=True))
    gates: dict[Edge, float | None] = {}
    for edge, value in route.gates.items():
        new = 1.0 if means is None else means[edge]
        gates[edge] = fixed = new if value is None or value == 1 else value
        if fixed < CLOSED_BELOW:
            raise ValueError(
                f"the mean gate value of {edge} over the images is below {CLOSED_BELOW}; remove the edge, give it a "
                f"value, or set all gates to 1 (--gates one). Received: {edge}={fixed:g}"
            )
    return Route.connected(route.lattice, gates)


def _means(gates_NE: Tensor) -> list[float]:
    """Return the mean gate value of each edge, rounded, at most 1."""
    return [min(1.0, round(mean, _DIGITS)) for mean in gates_NE.double().mean(dim=0).tolist()]


def specialized_route(network: DynamicNetwork, gates_NE: Tensor) -> Route:
    """Return the route with which a network computes the same outputs for these images.

    Edges that no image opens are removed. An edge whose gate has one value for all images that reach its cell gets this
    value; the others keep their learned gates.

    Args:
        network: Network with learned gates.
        gates_NE: Gate values of a single pass per image, columns in the order of `lattice.edges`.

    Raises:
        ValueError: If all gates are fixed already, or cells run without input (`MODEL.GATE.UNREACHED=run`).
    """
    lattice = network.lattice
    if not network.has_gates:
        raise ValueError("the network must have learned gates; its route is fixed already. Received: has_gates=False")
    if network.unreached is Unreached.RUN:
        raise ValueError(
            "MODEL.GATE.UNREACHED must be skip or published: with run, cells that no image reaches have outputs. "
            "Received: MODEL.GATE.UNREACHED=run"
        )
    routing = Routing.of_gates(network.route, gates_NE, unreached=network.unreached)
    open_of = dict(zip(lattice.nodes, routing.open_BN.unbind(dim=1), strict=True))
    reached = dict(zip(lattice.nodes, routing.reached_BN.unbind(dim=1), strict=True))
    gates_of = dict(zip(lattice.edges, gates_NE.unbind(dim=1), strict=True))
    gates: dict[Edge, float | None] = {}
    for node in network.route.cells:
        edges = network.route.edges_from(node)
        own = {
            edge: _constant(gates_of[edge][reached[node]])
            for edge in edges
            if delivering(gates_of[edge] > 0, open_of[node], network.unreached).any()
        }
        if isinstance(network.cell(node).gate, SoftmaxGate) and None in own.values():
            own = dict.fromkeys(edges, None)  # the gates depend on each other
        gates |= own
    return Route.connected(lattice, gates)


def _constant(gates_N: Tensor) -> float | None:
    """Return the value of gates that are all equal and open; None otherwise."""
    low, high = gates_N.min().item(), gates_N.max().item()
    return min(1.0, round(high, _DIGITS)) if low >= CLOSED_BELOW and high - low <= _NOISE else None


def route_state_dict(model: DynamicNet4Seg, route: Route) -> dict[str, Tensor]:
    """Return the state dict of the network that holds only a route, with the weights of the model.

    Args:
        model: Model that has all parts of the route.
        route: Route for `MODEL.BACKBONE.ROUTE`.

    Raises:
        ValueError: If the model lacks an edge or gate of the route, or if gates that depend on each other would be
            separated.
    """
    network = model.backbone
    _check_contained(route, network)
    state = {key: value for key, value in model.state_dict().items() if not key.startswith(_CELLS)}
    for node in route.cells:
        moves, cell = [str(edge.move) for edge in route.edges_from(node)], network.cell(node)
        parts = {"operation": cell.operation} | {f"transitions.{move}": cell.transitions[move] for move in moves}
        if rows := _learned_rows(network.route, route, node):
            assert cell.gate is not None
            parts["gate"] = cell.gate
        for part, module in parts.items():
            state |= {f"{_CELLS}{node}.{part}.{name}": value for name, value in module.state_dict().items()}
        for name in ("weight", "bias") if rows else ():
            key = f"{_CELLS}{node}.gate.predict.{name}"
            state[key] = state[key][rows]
    return state


def _learned_rows(whole: Route, route: Route, node: Node) -> list[int]:
    """Return the outputs of a cell's gate that remain learned."""
    learned = [edge for edge in whole.edges_from(node) if whole.gates[edge] is None]
    return [row for row, edge in enumerate(learned) if edge in route.gates and route.gates[edge] is None]


def _check_contained(route: Route, network: DynamicNetwork) -> None:
    for edge in route.edges:
        if edge not in network.route.gates:
            raise ValueError(f"the model has no edge {edge}; remove it from the route. Received: {edge}")
        if route.gates[edge] is None and network.route.gates[edge] is not None:
            raise ValueError(f"the model has no learned gate for {edge}; give it a fixed value. Received: {edge}=gate")
    for node in route.cells:
        gate, rows = network.cell(node).gate, _learned_rows(network.route, route, node)
        if isinstance(gate, SoftmaxGate) and 0 < len(rows) < gate.predict.out_channels:
            raise ValueError(
                f"the softmax gates of {node} depend on each other; keep all of its edges learned or fix all of them. "
                f"Received: {len(rows)} of {gate.predict.out_channels} edges with learned gates"
            )
