"""Conditional execution: sparse execution of one image as a graph, whose branches decide which parts run.

It is traced by `torch.export`, whose `torch.cond` becomes the operator If in ONNX. Both branches of a condition must
return tensors of equal shape, strides and dtype, also as expressions of a symbolic input size.

Shape suffixes: E edges of the lattice, G gates of one cell.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.functional import interpolate

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
        network: Network in evaluation mode whose cells are run.
        x: Input (1, C, H, W) of the source cell.

    Returns:
        The lattice's outputs, finest first, and the routing.
    """
    run = _ConditionalRun(network, x)
    for layer in network.lattice.layers:
        for node in layer:
            run.run_node(node)
    gates_BE = all_edges(network, run.gates)
    reached_BN = torch.stack([run.reached.get(node, run.no) for node in network.lattice.nodes])[None]
    by_scale = {node.scale: y for node, y in run.inputs.items()}
    return outputs(network, by_scale, like=x), Routing(network.lattice, gates_BE, reached_BN)


class _ConditionalRun:
    """State of a pass: inputs of the nodes to come, and whether the image reaches each node (0-d)."""

    def __init__(self, network: DynamicNetwork, x: Tensor) -> None:
        source = network.lattice.source
        self.network = network
        self.yes = torch.ones((), dtype=torch.bool, device=x.device)
        self.no = torch.zeros_like(self.yes)
        self.inputs, self.reached = {source: x}, {source: self.yes}
        self.gates: list[Tensor] = []
        self._always = {source}  # nodes that every image reaches
        if network.unreached.runs(training=False):
            self._always |= {*network.route.cells}

    def run_node(self, node: Node) -> None:
        """Run the cell of a node, if the route contains it."""
        if self.network.route.edges_from(node):
            self._run_cell(node, self.inputs.pop(node))
        elif self.network.route.passes_on(node):
            keep = Edge(node, Move.KEEP).target
            self._add(keep, self.inputs.pop(node))
            self._add_reached(keep, self.reached[node])

    def _run_cell(self, node: Node, x: Tensor) -> None:
        cell, edges = self.network.cell(node), self.network.route.edges_from(node)
        if node in self._always:
            self.reached[node] = self.yes
        reached = self.reached[node]
        gates_BG = close_gates(self._gates(cell, x, node))
        self.gates.append(gates_BG)
        opened = (gates_BG > 0).any()
        passes = reached & ~opened
        h = torch.cond(opened, lambda a: _alone(cell.activated(a)), _alone, (x,))  # a closed cell passes `x` on
        keep = Edge(node, Move.KEEP)
        for column, edge in enumerate(edges):
            gate = gates_BG[0, column]
            if edge.move is not Move.KEEP:
                self._run_transition(cell, edge, h, gate)
            elif cell.may_close:
                self._add(edge.target, h * (gate + passes).to(h.dtype))
            else:
                self._add(edge.target, h * gate.to(h.dtype))
            self._add_reached(edge.target, delivering(gate > 0, opened, self.network.unreached))
        if cell.may_close:
            if keep not in edges:
                self._add(keep.target, h * passes.to(h.dtype))
            self._add_reached(keep.target, passes)

    def _gates(self, cell: Cell, x: Tensor, node: Node) -> Tensor:
        """Return the gate values (1, G) of a cell, zeros if the image does not reach it."""
        learned, gate = None, cell.gate
        if gate is not None:
            if node in self._always:
                learned = gate(x)
            else:
                count = cell.fixed_gates.count(None)
                learned = torch.cond(self.reached[node], gate, lambda a: a.new_zeros(1, count), (x,))
        values = with_fixed(cell, learned, num_images=1, like=x)
        return values if node in self._always else values * self.reached[node]

    def _run_transition(self, cell: Cell, edge: Edge, h: Tensor, gate: Tensor) -> None:
        """Run a transition up or down if its gate is open."""
        transition, target = cell.transitions[str(edge.move)], edge.target
        channels, down = self.network.channels(target), edge.move is Move.DOWN

        def closed(a: Tensor, weight: Tensor) -> Tensor:
            height, width = a.shape[-2:]
            if down:  # the size of a convolution with stride 2, in the same form
                return a.new_zeros(1, channels, (height - 1) // 2 + 1, (width - 1) // 2 + 1)
            return interpolate(a.new_zeros(1, channels, height, width), scale_factor=2, mode="nearest")

        def run(a: Tensor, weight: Tensor) -> Tensor:
            return transition(a) * weight.to(a.dtype)

        if target in self.inputs:
            self.inputs[target] = torch.cond(
                gate > 0,
                lambda total, a, weight: _alone(total + run(a, weight)),
                lambda total, a, weight: _alone(total),
                (self.inputs[target], h, gate),
            )
        else:
            self.inputs[target] = torch.cond(gate > 0, lambda a, weight: _alone(run(a, weight)), closed, (h, gate))

    def _add(self, target: Node, y: Tensor) -> None:
        self.inputs[target] = self.inputs[target] + y if target in self.inputs else y

    def _add_reached(self, target: Node, reached: Tensor) -> None:
        self.reached[target] = self.reached[target] | reached if target in self.reached else reached


def _alone(y: Tensor) -> Tensor:
    """Return a contiguous tensor that shares no memory with an input of its branch."""
    return y.contiguous().clone()
