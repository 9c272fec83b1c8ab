"""Conditional execution: sparse execution of one image as a graph, whose branches decide which parts run.

`torch.export` traces it. Parts that run for every image, because of fixed gate values, have no condition.

Shape suffixes: E edges of the lattice, G gates of one cell, N nodes of the lattice.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from dl_lib.modeling.dynamic.branches import Condition, either, run_if
from dl_lib.modeling.dynamic.execution_steps import all_edges, close_gates, outputs, with_fixed
from dl_lib.modeling.dynamic.lattice import Edge, Move, Node
from dl_lib.modeling.dynamic.routing import Routing, delivering

if TYPE_CHECKING:
    from dl_lib.modeling.dynamic.cell import Cell
    from dl_lib.modeling.dynamic.network import DynamicNetwork

__all__ = ["run_conditional"]


def run_conditional(network: DynamicNetwork, x: Tensor) -> tuple[list[Tensor], Routing]:
    """Run the open cells and active transitions of one image.

    Args:
        network: Network in evaluation mode whose cells are run; it has learned gates.
        x: Input (1, C, H, W) of the source cell.

    Returns:
        The lattice's outputs, finest first, and the routing.
    """
    run = _ConditionalRun(network, x)
    for layer in network.lattice.layers:
        run.run_layer(layer)
    by_scale = {node.scale: y for node, y in run.inputs.items()}
    yes = torch.ones((), dtype=torch.bool, device=x.device)
    reached_BN = torch.stack([yes & run.reached.get(node, False) for node in network.lattice.nodes])[None]
    return outputs(network, by_scale, like=x), Routing(network.lattice, all_edges(network, run.gates), reached_BN)


@dataclass(frozen=True, eq=False)
class _Delivery:
    """Feature maps on their way along an edge.

    Attributes:
        move: Move of the edge.
        transition: Transition of the edge.
        h: Its input (1, C, H, W).
        weight: Factor (0-d) of its output.
        active: Whether it runs.
    """

    move: Move
    transition: nn.Module
    h: Tensor
    weight: Tensor
    active: Condition

    def added_to(self, *total: Tensor) -> Tensor:
        """Return the sum of what the transition delivers, if it is active, and a total, if there is one.

        Args:
            total: Feature maps of the total, and optionally their factor.
        """

        def run(h: Tensor, weight: Tensor, *total: Tensor) -> Tensor:
            y = self.transition(h) * weight
            return _product(*total) + y if total else y

        def closed(h: Tensor, weight: Tensor, *total: Tensor) -> Tensor:
            return _product(*total) if total else _zeros(h, self.move)

        return run_if(self.active, run, closed, self.h, self.weight, *total, modules=[self.transition])


class _ConditionalRun:
    """State of a pass: inputs of the next layer's nodes, and whether the image reaches each node."""

    def __init__(self, network: DynamicNetwork, x: Tensor) -> None:
        source = network.lattice.source
        self.network = network
        self.inputs, self.gates = {source: x}, list[Tensor]()
        self.reached: dict[Node, Condition] = {source: True}
        if network.unreached.runs(training=False):
            self.reached |= dict.fromkeys(network.route.cells, True)
        self._kept: dict[Node, tuple[Tensor, ...]] = {}
        self._moved: dict[Node, list[_Delivery]] = {}

    def run_layer(self, nodes: tuple[Node, ...]) -> None:
        """Run the cells of a layer that the route contains, and compute the inputs of the next layer."""
        self._kept, self._moved = {}, {}
        for node in nodes:
            if self.network.route.edges_from(node):
                self._run_cell(node, self.inputs[node])
            elif self.network.route.passes_on(node):
                keep = Edge(node, Move.KEEP).target
                self._kept[keep] = (self.inputs[node],)
                self._add_reached(keep, self.reached[node])
        self.inputs = {node: self._input_of(node) for node in self._kept | self._moved}

    def _input_of(self, node: Node) -> Tensor:
        """Return the sum of the deliveries to a node; closed transitions cost one pass over memory, if any."""
        total = self._kept.get(node, ())
        for delivery in self._moved.get(node, ()):
            total = (delivery.added_to(*total),)
        return _product(*total)

    def _add_reached(self, target: Node, reaches: Condition) -> None:
        self.reached[target] = either(self.reached.get(target, False), reaches)

    def _run_cell(self, node: Node, x: Tensor) -> None:
        cell, reached = self.network.cell(node), self.reached[node]
        gates_BG = self._gates(cell, x, reached)
        self.gates.append(gates_BG)
        opened: Condition = True if reached is True and not cell.may_close else (gates_BG > 0).any()
        h = run_if(opened, cell.activated, lambda a: a, x, modules=[cell.operation])
        for column, edge in enumerate(self.network.route.edges_from(node)):
            gate = gates_BG[0, column]
            active = True if reached is True and cell.fixed_gates[column] is not None else gate > 0
            self._add_reached(edge.target, delivering(active, opened, self.network.unreached))
            if edge.move is Move.KEEP:
                self._kept[edge.target] = (h, gate.to(h.dtype))
            else:
                delivery = _Delivery(edge.move, cell.transitions[str(edge.move)], h, gate.to(h.dtype), active)
                self._moved.setdefault(edge.target, []).append(delivery)
        if isinstance(opened, Tensor) and cell.may_close:
            self._pass_on(Edge(node, Move.KEEP).target, h, closed=~opened, reached=reached)

    def _pass_on(self, target: Node, x: Tensor, *, closed: Tensor, reached: Condition) -> None:
        """Pass the input of a closed cell on, which is zero if the image does not reach the cell."""
        weight = closed.to(x.dtype)
        _, *gate = self._kept.get(target, (x,))
        self._kept[target] = (x, weight + gate[0] if gate else weight)
        self._add_reached(target, reached & closed)

    def _gates(self, cell: Cell, x: Tensor, reached: Condition) -> Tensor:
        """Return the gate values (1, G) of a cell, zeros if the image does not reach it."""
        learned, gate = None, cell.gate
        if gate is not None:
            count = cell.fixed_gates.count(None)
            learned = run_if(reached, gate, lambda a: a.new_zeros(1, count), x, modules=[gate])
        values = with_fixed(cell, learned, num_images=1, like=x)
        return close_gates(values if reached is True else values * reached)


def _product(y: Tensor, weight: Tensor | None = None) -> Tensor:
    return y if weight is None else y * weight


def _zeros(h: Tensor, move: Move) -> Tensor:
    """Return zeros of the shape of a transition's output, in the same form for a symbolic size."""
    images, channels, height, width = h.shape
    if move is Move.DOWN:
        return h.new_zeros(images, 2 * channels, (height - 1) // 2 + 1, (width - 1) // 2 + 1)
    return interpolate(h.new_zeros(images, channels // 2, height, width), scale_factor=2, mode="nearest")
