"""Routing space as data: nodes and edges of the lattice, in pure Python (arXiv 2003.10401, section 3.1, figure 2).

Modules, gates, costs and figures are mappings from these nodes or edges.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

__all__ = ["Edge", "Lattice", "Move", "Node"]

FINEST_STRIDE = 4


class Move(enum.Enum):
    """Scale change along an edge; the order of the members is the order of a cell's gate values."""

    KEEP = 0
    UP = -1  # to the finer scale: half the stride, half the channels
    DOWN = 1  # to the coarser scale: twice the stride, twice the channels

    def __str__(self) -> str:
        return self.name.lower()


@dataclass(frozen=True, order=True)
class Node:
    """Position of a cell: layer 0 is the source cell, scale s has stride 4 * 2**s."""

    layer: int
    scale: int

    @property
    def stride(self) -> int:
        return FINEST_STRIDE * 2**self.scale

    def __str__(self) -> str:
        return f"layer{self.layer}_stride{self.stride}"


@dataclass(frozen=True)
class Edge:
    """Gated outgoing edge of a cell; edges of the last layer lead to the lattice's output of the same scale."""

    source: Node
    move: Move

    @property
    def target(self) -> Node:
        return Node(self.source.layer + 1, self.source.scale + self.move.value)

    def __str__(self) -> str:
        return f"{self.source}.{self.move}"


@dataclass(frozen=True)
class Lattice:
    """Densely connected lattice of cells.

    An edge joins two nodes of neighbouring layers that are at most one scale apart; nodes of the last layer have only a
    keep edge.

    Args:
        cells_per_layer: Number of scales in each layer after the source cell (`CELL_NUM_LIST`).

    Raises:
        ValueError: If a cell would have no incoming edge, or no keep edge.
    """

    cells_per_layer: tuple[int, ...]

    def __init__(self, cells_per_layer: Sequence[int]) -> None:
        object.__setattr__(self, "cells_per_layer", tuple(cells_per_layer))
        if not self.cells_per_layer:
            raise ValueError("cells_per_layer must have at least one entry. Received: cells_per_layer=()")
        for layer, (before, here) in enumerate(zip((1, *self.cells_per_layer), self.cells_per_layer, strict=False), 1):
            if not before <= here <= before + 1:
                raise ValueError(
                    f"cells_per_layer: layer {layer} must have {before} or {before + 1} cells, because every cell of "
                    f"the previous layer ({before} cells) has a keep edge and an edge changes the scale by at most "
                    f"one. Received: cells_per_layer={list(self.cells_per_layer)}"
                )

    @property
    def num_layers(self) -> int:
        """Number of layers after the source (the paper's L)."""
        return len(self.cells_per_layer)

    @property
    def num_scales(self) -> int:
        """Number of scales of the last layer, and so of the outputs."""
        return self.cells_per_layer[-1]

    @property
    def max_stride(self) -> int:
        """Stride of the coarsest cell; image sides are padded to multiples of this stride."""
        return self.layers[-1][-1].stride

    @cached_property
    def layers(self) -> tuple[tuple[Node, ...], ...]:
        """Nodes of each layer, source first, finest scale first."""
        counts = (1, *self.cells_per_layer)
        return tuple(tuple(Node(layer, scale) for scale in range(count)) for layer, count in enumerate(counts))

    @cached_property
    def nodes(self) -> tuple[Node, ...]:
        """All nodes, layer by layer."""
        return tuple(node for layer in self.layers for node in layer)

    @property
    def source(self) -> Node:
        """Node of the source cell."""
        return self.layers[0][0]

    @cached_property
    def outputs(self) -> tuple[Node, ...]:
        """Targets of the last layer's edges, finest first; they have no cell."""
        return tuple(Node(self.num_layers + 1, scale) for scale in range(self.num_scales))

    def edges_from(self, node: Node) -> tuple[Edge, ...]:
        """Return the outgoing edges of a cell in the order of its gate values: keep, up, down, if they exist."""
        return self._edges_from[str(node)]

    @cached_property
    def edges(self) -> tuple[Edge, ...]:
        """All edges, node by node."""
        return tuple(edge for node in self.nodes for edge in self.edges_from(node))

    @cached_property
    def edge_columns(self) -> tuple[tuple[int, ...], ...]:
        """Positions in `edges` of each node's outgoing edges, padded to three with `len(edges)`."""
        column = {edge: i for i, edge in enumerate(self.edges)}
        rows = ([column[edge] for edge in self.edges_from(node)] for node in self.nodes)
        return tuple((*row, *[len(column)] * (len(Move) - len(row))) for row in rows)

    def strongest_gates(self, gates: Sequence[float]) -> dict[Node, float]:
        """Return the largest outgoing gate of each cell, and the gate of the edge to each output.

        Args:
            gates: Gate values in the order of `edges`.
        """
        strongest = dict.fromkeys((*self.nodes, *self.outputs), 0.0)
        for edge, gate in zip(self.edges, gates, strict=True):
            strongest[edge.source] = max(strongest[edge.source], gate)
            if edge.target in self.outputs:
                strongest[edge.target] = gate
        return strongest

    @cached_property
    def _edges_from(self) -> dict[str, tuple[Edge, ...]]:
        # Keyed by name because torch 2.6 cannot compile dictionaries whose keys are objects.
        targets = {*self.nodes, *self.outputs}
        return {
            str(node): tuple(
                edge
                for move in (Move.KEEP, *((Move.UP, Move.DOWN) if node.layer < self.num_layers else ()))
                if (edge := Edge(node, move)).target in targets
            )
            for node in self.nodes
        }
