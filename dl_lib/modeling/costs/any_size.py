"""Real cost of a routed network as a formula of the image size, for graphs that run at any size.

The cost of a part is a constant plus a multiple of the number of positions; tables of two sizes give both.
"""

from __future__ import annotations

import math
from dataclasses import replace

from torch import Tensor

from dl_lib.modeling.costs.table import CostTable, NetworkCosts
from dl_lib.modeling.dynamic.gate import SMALL_GATE_SHRINK
from dl_lib.modeling.dynamic.lattice import Node
from dl_lib.modeling.dynamic.network import DynamicNetwork
from dl_lib.modeling.dynamic.routing import Routing

__all__ = ["RealCost"]

# Sides in blocks of the coarsest stride; small gates divide those of the first two without remainder.
_SMALL, _LARGE = (SMALL_GATE_SHRINK, SMALL_GATE_SHRINK), (2 * SMALL_GATE_SHRINK, SMALL_GATE_SHRINK)
_CHECKED = ((5, 6), (4, 7))


class RealCost:
    """Real cost of images of any size under the published convention.

    Args:
        network: Routed network.
        costs: Its cost tables.

    Raises:
        ValueError: If the cost of a part is not a constant plus a multiple of the number of pixels.
    """

    def __init__(self, network: DynamicNetwork, costs: NetworkCosts) -> None:
        self._divisor, self._shrink = network.size_divisor, SMALL_GATE_SHRINK if network.small_gate else 1
        small, large = (costs.table(*self._in_pixels(blocks)) for blocks in (_SMALL, _LARGE))
        self._gates = {  # cost at the small size, and cost of one more position
            node: (before, (after - before) // (self._positions(node, _LARGE) - self._positions(node, _SMALL)))
            for node, before, after in zip(network.lattice.nodes, small.published[1], large.published[1], strict=True)
        }
        self._base = replace(small, gates=dict.fromkeys(small.gates, 0))
        self._per_block = _difference(large, small, divided_by=math.prod(_LARGE) - math.prod(_SMALL))
        for blocks in _CHECKED:
            self._check(costs, *self._in_pixels(blocks))

    def __call__(self, routing: Routing, *, height: int, width: int) -> Tensor:
        """Return the multiply-adds (B,), float64, of images of this padded size in pixels, which may be symbolic."""
        blocks = (height // self._divisor, width // self._divisor)
        gates = sum(
            cost + per_position * (self._positions(node, blocks) - self._positions(node, _SMALL))
            for node, (cost, per_position) in self._gates.items()
        )
        more_blocks = blocks[0] * blocks[1] - math.prod(_SMALL)
        return self._base.real(routing) + self._per_block.real(routing) * more_blocks + gates

    def _positions(self, node: Node, blocks: tuple[int, int]) -> int:
        """Return the positions of a cell's feature maps in its gate."""
        rows, columns = (side * (self._divisor // node.stride) // self._shrink for side in blocks)
        return rows * columns

    def _in_pixels(self, blocks: tuple[int, int]) -> tuple[int, int]:
        rows, columns = blocks
        return rows * self._divisor, columns * self._divisor

    def _check(self, costs: NetworkCosts, height: int, width: int) -> None:
        measured = costs.table(height, width)
        computed = self(Routing.all_open(measured.lattice), height=height, width=width).item()
        if computed != measured.real_all_open:
            raise ValueError(
                "the cost of each part must be a constant plus a multiple of the number of pixels, so that the real "
                "cost is known for any size; remove the operation for which it is not. Received: "
                f"madds={measured.real_all_open:.0f}, expected {computed:.0f} at {height}x{width}"
            )


def _difference(large: CostTable, small: CostTable, *, divided_by: int) -> CostTable:
    """Return the costs of one more block without those of gates."""

    def per_block(after: int, before: int) -> int:
        return (after - before) // divided_by

    return replace(
        small,
        stem=per_block(large.stem, small.stem),
        head=per_block(large.head, small.head),
        operations={node: per_block(large.operations[node], cost) for node, cost in small.operations.items()},
        gates=dict.fromkeys(small.gates, 0),
        transitions={edge: per_block(large.transitions[edge], cost) for edge, cost in small.transitions.items()},
    )
