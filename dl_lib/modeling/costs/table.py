"""Cost table of a routed network: the multiply-adds of every part, measured once per input size.

Two conventions for the real cost: *complete* counts every module that must run; the *published* one is the paper's,
which excludes the source cell's operation and gate and the last layer's ReLUs, and counts the gates of all other cells
whether they are evaluated or not. Expected cost: arXiv 2003.10401, equations 8 to 10.

Shape suffixes: B images, E edges of the lattice, N nodes of the lattice.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import torch
from torch import Tensor, nn

from dl_lib.modeling.costs.costs import Costs
from dl_lib.modeling.costs.counters import count_madds, measure_madds
from dl_lib.modeling.costs.meta_copy import meta_copy
from dl_lib.modeling.costs.part_table import PartCosts, PartTable, weighted_sum
from dl_lib.modeling.dynamic.lattice import Node
from dl_lib.modeling.dynamic.network import STEM_CHANNELS, DynamicNetwork, DynamicStem
from dl_lib.modeling.dynamic.ops import Zero
from dl_lib.modeling.dynamic.routing import Routing
from dl_lib.utils.rounding import round_up

__all__ = ["CostTable", "NetworkCosts"]


class CostTable(PartTable[int]):
    """Multiply-adds of every part, for one image of one size; sums are exact because they are below 2**53."""

    def costs(self, routing: Routing, *, executed: Sequence[int]) -> Costs[Tensor]:
        """Return the costs of a batch; `executed` are the observed multiply-adds of each image."""
        return Costs(
            expected=self.expected(routing),
            real=self.real(routing),
            real_complete=self.real_complete(routing),
            executed=torch.tensor(executed, dtype=torch.float64),
        )

    def real(self, routing: Routing) -> Tensor:
        """Return the real cost under the published convention."""
        operations_N, _, transitions_E = self.published
        return (
            weighted_sum(routing.open_BN, operations_N) + weighted_sum(routing.active_BE, transitions_E) + self.unrouted
        )

    @cached_property
    def real_all_open(self) -> float:
        """Real cost with all gates open, in multiply-adds under the published convention."""
        return self.real(Routing.all_open(self.lattice)).item()

    @property
    def unrouted(self) -> int:
        """Part of `real` that does not depend on the routing: stem, head and gates."""
        _, gates_N, _ = self.published
        return self.stem + self.head + sum(gates_N)

    @property
    def expected_parts(self) -> PartCosts[int]:
        """Cells and transitions without the source's operation and the transitions to the outputs."""
        return self.published

    @cached_property
    def published(self) -> PartCosts[int]:
        """Costs that `real` covers, as in `complete`."""
        nodes, edges = self.lattice.nodes, self.lattice.edges
        return (
            tuple(self.operations[node] if node != self.lattice.source else 0 for node in nodes),
            tuple(self.gates[node] if node != self.lattice.source else 0 for node in nodes),
            tuple(self.transitions[edge] if edge.target not in self.lattice.outputs else 0 for edge in edges),
        )


class NetworkCosts:
    """Cost tables of a routed network and its head, measured on the meta device and cached per input size."""

    def __init__(self, backbone: DynamicNetwork, head: nn.Module) -> None:
        self._backbone, self._head = backbone, head
        self._tables: dict[tuple[int, int], CostTable] = {}

    def table(self, height: int, width: int) -> CostTable:
        """Return the cost table for images of this size in pixels, rounded up to multiples of `size_divisor`."""
        size = self.padded_size(height, width)
        if size not in self._tables:
            self._tables[size] = _measure(*self._meta_copies, height=size[0], width=size[1])
        return self._tables[size]

    def padded_size(self, height: int, width: int) -> tuple[int, int]:
        """Return the size in pixels that images of a size are padded to."""
        divisor = self._backbone.size_divisor
        return round_up(height, divisor), round_up(width, divisor)

    def channels(self, node: Node) -> int:
        """Return the channels of a node's input, or of one of the lattice's outputs."""
        return self._backbone.channels(node)

    def without_weights(self) -> NetworkCosts:
        """Return costs that share the tables, but do not refer to the network."""
        costs = NetworkCosts(*self._meta_copies)
        costs._tables = self._tables
        return costs

    @cached_property
    def _meta_copies(self) -> tuple[DynamicNetwork, nn.Module]:
        return meta_copy(self._backbone), meta_copy(self._head)


def _measure(backbone: DynamicNetwork, head: nn.Module, *, height: int, width: int) -> CostTable:
    def empty(channels: int, stride: int) -> Tensor:
        return torch.empty(1, channels, height // stride, width // stride, device="meta", dtype=dtype)

    lattice, dtype = backbone.lattice, next(backbone.parameters()).dtype
    x = {node: empty(backbone.channels(node), node.stride) for node in (*lattice.nodes, *lattice.outputs)}
    cells = {node: backbone.cell(node) for node in backbone.route.cells}
    absent_cells, absent_edges = dict.fromkeys(lattice.nodes, 0), dict.fromkeys(lattice.edges, 0)
    features = dict(zip(backbone.output_shapes, (x[node] for node in lattice.outputs), strict=True))
    return CostTable(
        lattice=lattice,
        stem=measure_madds(backbone.stem, empty(3, 1)),
        head=measure_madds(head, features),
        operations=absent_cells | {node: measure_madds(cell.operation, x[node]) for node, cell in cells.items()},
        gates=absent_cells | {node: measure_madds(cell.gate, x[node]) for node, cell in cells.items() if cell.gate},
        transitions=absent_edges
        | {
            edge: measure_madds(cells[edge.source].transitions[str(edge.move)], x[edge.source])
            for edge in backbone.route.edges
        },
    )


@count_madds.register
def _zero(zero: Zero, x: Tensor, y: Tensor) -> int:
    return 0


@count_madds.register
def _stem_border(stem: DynamicStem, image: Tensor, output: Tensor) -> int:
    """Return the cost of the row and column that the unpadded first convolution omits at stride 2.

    The paper counts the stem on the full grid (H / 2) × (W / 2), while the network computes one row and one column
    fewer: at 1024 × 2048, 10.4 of 121,059 MFLOPs. All costs follow the paper here.
    """
    batch, _, height, width = image.shape
    rows, columns = height // 2, width // 2
    omitted = rows * columns - (rows - 1) * (columns - 1)
    return batch * omitted * sum(_madds_per_position(module) for part in [*stem][:2] for module in part.children())


def _madds_per_position(module: nn.Module) -> int:
    if isinstance(module, nn.Conv2d):
        return module.weight.numel()
    position = torch.empty(1, STEM_CHANNELS, 1, 1, device="meta")
    return count_madds(module, position, position)
