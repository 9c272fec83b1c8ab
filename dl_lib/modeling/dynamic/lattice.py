"""The routing space as data: nodes, the edges between them, and nothing of torch.

Source: "Learning Dynamic Routing for Semantic Segmentation" (arXiv 2003.10401), section 3.1 and figure 2.
Everything else in this package is a mapping from nodes or edges to modules, gates, costs or colours.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

__all__ = ["Edge", "Lattice", "Move", "Node"]

FINEST_STRIDE = 4


class Move(enum.Enum):
    """What an edge does to the scale; the order of the members is the order of a cell's gates."""

    KEEP = 0
    UP = -1  # to the finer scale: half the stride, half the channels
    DOWN = 1  # to the coarser scale: twice the stride, twice the channels

    def __str__(self) -> str:
        return self.name.lower()


@dataclass(frozen=True, order=True)
class Node:
    """A cell's place: layer 0 holds the source cell, scale s has stride 4 * 2**s."""

    layer: int
    scale: int

    @property
    def stride(self) -> int:
        return FINEST_STRIDE * 2**self.scale

    def __str__(self) -> str:
        return f"layer{self.layer}_stride{self.stride}"


@dataclass(frozen=True)
class Edge:
    """One gated way out of a cell; that of the last layer leads to the lattice's output of its scale."""

    source: Node
    move: Move

    @property
    def target(self) -> Node:
        return Node(self.source.layer + 1, self.source.scale + self.move.value)

    def __str__(self) -> str:
        return f"{self.source}.{self.move}"


@dataclass(frozen=True)
class Lattice:
    """The densely connected lattice of cells.

    Args:
        cells_per_layer: number of scales in each layer after the source cell (`CELL_NUM_LIST`).

    Raises:
        ValueError: if a cell could never receive anything, or had nowhere to pass its input on to.
    """

    cells_per_layer: tuple[int, ...]

    def __init__(self, cells_per_layer: Sequence[int]) -> None:
        object.__setattr__(self, "cells_per_layer", tuple(cells_per_layer))
        if not self.cells_per_layer:
            raise ValueError("a lattice needs at least one layer after its source. Received: cells_per_layer=()")
        for layer, (before, here) in enumerate(zip((1, *self.cells_per_layer), self.cells_per_layer, strict=False), 1):
            if not before <= here <= before + 1:
                raise ValueError(
                    f"layer {layer} can hold {before} or {before + 1} cells: the layer before holds {before}, all of "
                    "which can keep their scale, and an edge reaches one scale further at most. "
                    f"Received: cells_per_layer={list(self.cells_per_layer)}"
                )

    @property
    def num_layers(self) -> int:
        """Layers after the source (the paper's L)."""
        return len(self.cells_per_layer)

    @property
    def num_scales(self) -> int:
        """Scales that the last layer gives out."""
        return self.cells_per_layer[-1]

    @property
    def max_stride(self) -> int:
        """Stride of the coarsest cell: image sides are padded to its multiples."""
        return self.layers[-1][-1].stride

    @cached_property
    def layers(self) -> tuple[tuple[Node, ...], ...]:
        """Nodes of each layer, the source first, finest scale first."""
        counts = (1, *self.cells_per_layer)
        return tuple(tuple(Node(layer, scale) for scale in range(count)) for layer, count in enumerate(counts))

    @cached_property
    def nodes(self) -> tuple[Node, ...]:
        return tuple(node for layer in self.layers for node in layer)

    @property
    def source(self) -> Node:
        return self.layers[0][0]

    @cached_property
    def outputs(self) -> tuple[Node, ...]:
        """The places beyond the last layer where its cells deliver, finest first; no cell stands there."""
        return tuple(Node(self.num_layers + 1, scale) for scale in range(self.num_scales))

    def edges_from(self, node: Node) -> tuple[Edge, ...]:
        """The gated ways out of a cell, in the order of its gates: keep, up, down, as far as they exist."""
        return self._edges_from[str(node)]

    @cached_property
    def edges(self) -> tuple[Edge, ...]:
        """All edges, node by node."""
        return tuple(edge for node in self.nodes for edge in self.edges_from(node))

    @cached_property
    def edge_columns(self) -> tuple[tuple[int, ...], ...]:
        """For each node the positions in `edges` of its ways out, filled up to three with the one behind the last."""
        column = {edge: i for i, edge in enumerate(self.edges)}
        rows = ([column[edge] for edge in self.edges_from(node)] for node in self.nodes)
        return tuple((*row, *[len(column)] * (len(Move) - len(row))) for row in rows)

    @cached_property
    def _edges_from(self) -> dict[str, tuple[Edge, ...]]:
        # By name: torch 2.6 cannot compile keys that are objects.
        places = {*self.nodes, *self.outputs}
        return {
            str(node): tuple(
                edge
                for move in (Move.KEEP, *((Move.UP, Move.DOWN) if node.layer < self.num_layers else ()))
                if (edge := Edge(node, move)).target in places
            )
            for node in self.nodes
        }
