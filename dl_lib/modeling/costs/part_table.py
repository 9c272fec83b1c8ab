"""Costs of the parts of a routed network in any unit, and their sums over the parts that run.

Shape suffixes: B images, E edges of the lattice, N nodes of the lattice.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Generic, TypeVar

import torch
from torch import Tensor

from dl_lib.modeling.dynamic.lattice import Edge, Lattice, Node
from dl_lib.modeling.dynamic.route import Route
from dl_lib.modeling.dynamic.routing import Routing
from dl_lib.utils.cached_tensors import cached_tensor

__all__ = ["PartCosts", "PartTable", "weighted_sum"]

Number = TypeVar("Number", int, float)
PartCosts = tuple[tuple[Number, ...], tuple[Number, ...], tuple[Number, ...]]  # of operations, gates and transitions


@dataclass(frozen=True, eq=False)
class PartTable(Generic[Number]):
    """Cost of every part of a routed network, for one image of one size.

    Parts that the network's route does not contain cost 0. Methods that take the routing of B images return (B,)
    float64.

    Attributes:
        lattice: Lattice of the network.
        stem: Cost of the stem.
        head: Cost of the segmentation head.
        operations: Cost of each cell's operation.
        gates: Cost of each cell's gate.
        transitions: Cost of each edge's transition.
    """

    lattice: Lattice
    stem: Number
    head: Number
    operations: Mapping[Node, Number]
    gates: Mapping[Node, Number]
    transitions: Mapping[Edge, Number]

    def real_complete(self, routing: Routing) -> Tensor:
        """Return the cost of every module that must run."""
        operations_N, gates_N, transitions_E = self.complete
        return (
            weighted_sum(routing.open_BN, operations_N)
            + weighted_sum(routing.active_BE, transitions_E)
            + weighted_sum(routing.reached_BN, gates_N)
            + self.unconditional
        )

    def expected(self, routing: Routing) -> Tensor:
        """Return the differentiable expected cost: Σ strongest gate × operation + Σ gate × transition.

        It covers the parts of `expected_parts`, but no gates.
        """
        operations_N, _, transitions_E = self.expected_parts
        return weighted_sum(routing.strongest_BN, operations_N) + weighted_sum(routing.gates_BE, transitions_E)

    @cached_property
    def expected_all_open(self) -> float:
        """Expected cost with all gates at one, which the loss of a budget refers to."""
        return self.expected(Routing.all_open(self.lattice)).item()

    @property
    def expected_parts(self) -> PartCosts[Number]:
        """Costs of the parts that `expected` covers, as in `complete`."""
        return self.complete

    @property
    def unconditional(self) -> Number:
        """Cost of the parts that run for every routing."""
        return self.stem + self.head

    @property
    def dense(self) -> Number:
        """Cost of dense execution, which runs every part whatever the gates are."""
        return self.unconditional + sum(map(sum, self.complete))

    def all_closed(self, route: Route, *, runs_unreached: bool) -> Number:
        """Return `real_complete` with every learned gate closed, so that inputs pass along keep.

        Args:
            route: Route of the network, whose fixed gates remain open.
            runs_unreached: Whether cells that are not reached run as well, see `Unreached`.
        """
        fixed = {edge: value for edge, value in route.gates.items() if value is not None}
        closed = Route.connected(self.lattice, fixed)
        edges = fixed if runs_unreached else closed.gates
        return (
            self.unconditional
            + sum(cost for node, cost in self.gates.items() if runs_unreached or node in closed.reached)
            + sum(self.operations[node] for node in {edge.source for edge in edges})
            + sum(self.transitions[edge] for edge in edges)
        )

    @cached_property
    def complete(self) -> PartCosts[Number]:
        """Costs of all operations (N), gates (N) and transitions (E), in the order of the lattice."""
        nodes, edges = self.lattice.nodes, self.lattice.edges
        return (
            tuple(self.operations[node] for node in nodes),
            tuple(self.gates[node] for node in nodes),
            tuple(self.transitions[edge] for edge in edges),
        )


def weighted_sum(weights: Tensor, costs: tuple[float, ...]) -> Tensor:
    """Return the sum of costs, weighted by the rows of (B, number of costs); (B,) float64, differentiable."""
    return weights.double() @ cached_tensor(costs, dtype=torch.float64, like=weights)
