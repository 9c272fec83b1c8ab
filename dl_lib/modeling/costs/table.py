"""What a routing costs: a table beside the network, measured once for each input size.

Unit of the table: multiply-adds of one image (see `counters` for what is counted). Two conventions for the real cost:
*complete* counts every module that has to run; *published* is the paper's, which leaves out the source cell's
operation and gate and the last layer's ReLUs, and books every other cell's gate whether it is evaluated or not.
Expected cost: arXiv 2003.10401, equations 8 to 10.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from dl_lib.modeling.costs.counters import MaddsObserver
from dl_lib.modeling.costs.meta_copy import meta_copy
from dl_lib.modeling.dynamic.lattice import Edge, Lattice, Node
from dl_lib.modeling.dynamic.network import DynamicNetwork
from dl_lib.modeling.dynamic.routing import Routing
from dl_lib.utils.cached_tensors import cached_tensor

__all__ = ["MADDS_PER_MFLOP", "CostTable", "NetworkCosts"]

MADDS_PER_MFLOP = 1e6


@dataclass(frozen=True, eq=False)
class CostTable:
    """Multiply-adds of every part, for one image of one size.

    The methods take a routing of B images and return (B,) float64, in multiply-adds (exact: below 2**53).
    """

    lattice: Lattice
    stem: int
    head: int
    operations: Mapping[Node, int]
    gates: Mapping[Node, int]
    transitions: Mapping[Edge, int]

    def expected(self, routing: Routing) -> Tensor:
        """Expected cost, differentiable: strongest gate × operation + Σ gate × transition.

        Cells and transitions only, without the source's operation and what leads to the outputs.
        """
        operations_N, _, transitions_E = self._counted_by_paper
        return _weigh(routing.strongest_BN, operations_N) + _weigh(routing.gates_BE, transitions_E)

    def real_published(self, routing: Routing) -> Tensor:
        """Real cost as the paper counts it."""
        operations_N, gates_N, transitions_E = self._counted_by_paper
        return (
            _weigh(routing.open_BN, operations_N)
            + _weigh(routing.active_BE, transitions_E)
            + sum(gates_N)
            + (self.stem + self.head)
        )

    def real_complete(self, routing: Routing) -> Tensor:
        """Everything that has to run for these images."""
        operations_N, gates_N, transitions_E = self._all
        return (
            _weigh(routing.open_BN, operations_N)
            + _weigh(routing.active_BE, transitions_E)
            + _weigh(routing.reached_BN, gates_N)
            + (self.stem + self.head)
        )

    @property
    def dense(self) -> int:
        """Everything: what dense execution runs for an image, whatever its gates are."""
        return self.stem + self.head + sum(map(sum, self._all))

    @property
    def expected_all_open(self) -> float:
        """Expected cost of all gates open: what the budget's share refers to."""
        return self.expected(Routing.all_open(self.lattice)).item()

    @cached_property
    def _all(self) -> _Costs:
        """Costs of operations (N), gates (N) and transitions (E)."""
        nodes, edges = self.lattice.nodes, self.lattice.edges
        return (
            tuple(self.operations[node] for node in nodes),
            tuple(self.gates[node] for node in nodes),
            tuple(self.transitions[edge] for edge in edges),
        )

    @cached_property
    def _counted_by_paper(self) -> _Costs:
        nodes, edges = self.lattice.nodes, self.lattice.edges
        return (
            tuple(self.operations[node] if node != self.lattice.source else 0 for node in nodes),
            tuple(self.gates[node] if node != self.lattice.source else 0 for node in nodes),
            tuple(self.transitions[edge] if edge.target not in self.lattice.outputs else 0 for edge in edges),
        )


_Costs = tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]


def _weigh(weights: Tensor, costs: tuple[int, ...]) -> Tensor:
    return weights.double() @ cached_tensor(costs, dtype=torch.float64, like=weights)


class NetworkCosts:
    """Cost tables of a routed network and its head, made when a size is first asked for.

    The parts run once on the meta device, in evaluation mode: shapes without data.
    """

    def __init__(self, backbone: DynamicNetwork, head: nn.Module) -> None:
        self._backbone, self._head = backbone, head
        self._tables: dict[tuple[int, int], CostTable] = {}

    def table(self, height: int, width: int) -> CostTable:
        """The costs for images of this size, which is rounded up to the multiples that it is padded to."""
        divisor = self._backbone.size_divisor
        size = (-(-height // divisor) * divisor, -(-width // divisor) * divisor)
        if size not in self._tables:
            self._tables[size] = _measure(*self._meta_copies, height=size[0], width=size[1])
        return self._tables[size]

    @cached_property
    def _meta_copies(self) -> tuple[DynamicNetwork, nn.Module]:
        return meta_copy(self._backbone), meta_copy(self._head)


@torch.no_grad()
def _measure(backbone: DynamicNetwork, head: nn.Module, *, height: int, width: int) -> CostTable:
    def maps(channels: int, stride: int) -> Tensor:
        return torch.empty(1, channels, height // stride, width // stride, device="meta", dtype=dtype)

    def cost(module: nn.Module, *inputs: Any) -> int:
        with MaddsObserver(num_images=1) as observer:
            module(*inputs)
        return observer.madds[0]

    lattice, dtype = backbone.lattice, next(backbone.parameters()).dtype
    x = {node: maps(backbone.channels(node), node.stride) for node in (*lattice.nodes, *lattice.outputs)}
    cells = {node: backbone.cell(node) for node in lattice.nodes}
    return CostTable(
        lattice=lattice,
        stem=cost(backbone.stem, maps(3, 1)),
        head=cost(head, dict(zip(backbone.output_shapes, (x[node] for node in lattice.outputs), strict=True))),
        operations={node: cost(cell.operation, x[node]) for node, cell in cells.items()},
        gates={node: cost(cell.gate, x[node]) if cell.gate else 0 for node, cell in cells.items()},
        transitions={
            edge: cost(cells[edge.source].transitions[str(edge.move)], x[edge.source]) for edge in lattice.edges
        },
    )
