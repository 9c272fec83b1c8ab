"""Routing decisions of a batch: the gate values of every edge of the lattice, per image (arXiv 2003.10401, eq. 4–5).

Shape suffixes: B images, E edges of the lattice, N nodes of the lattice.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import torch
from torch import Tensor
from torch.nn.functional import pad

from dl_lib.modeling.dynamic.lattice import Edge, Lattice, Move
from dl_lib.modeling.dynamic.route import Route
from dl_lib.utils.cached_tensors import cached_tensor

__all__ = ["Routing", "Unreached", "delivering", "gate_openness"]

Images = TypeVar("Images", Tensor, list[int], Tensor | bool)


class Unreached(enum.Enum):
    """Policy for cells that receive no input for an image (`MODEL.GATE.UNREACHED`)."""

    SKIP = "skip"  # does not contribute, in training and evaluation alike
    RUN = "run"  # always runs on zeros
    PUBLISHED = "published"  # runs on zeros in training, does not contribute in evaluation, as in the released models

    def runs(self, *, training: bool) -> bool:
        """Return whether unreached cells run in this mode."""
        return self is Unreached.RUN or (self is Unreached.PUBLISHED and training)


@dataclass(frozen=True, eq=False)
class Routing:
    """Routing decisions of a batch.

    Attributes:
        lattice: Lattice of the network.
        gates_BE: Gate values, 0 for closed and unreached cells; columns in the order of `lattice.edges`.
        reached_BN: True where a cell receives input from an edge, or runs without input; columns in the order of
            `lattice.nodes`.
    """

    lattice: Lattice
    gates_BE: Tensor
    reached_BN: Tensor

    @cached_property
    def strongest_BN(self) -> Tensor:
        """Largest gate value of each cell."""
        # Gates are not negative, so the zero column appended by `pad` is neutral where a cell has fewer edges.
        index_N3 = cached_tensor(self.lattice.edge_columns, dtype=torch.int64, like=self.gates_BE)
        return pad(self.gates_BE, (0, 1))[:, index_N3].amax(dim=2)

    @property
    def active_BE(self) -> Tensor:
        """True where the edge's transition runs."""
        return self.gates_BE > 0

    @property
    def open_BN(self) -> Tensor:
        """True where the cell's operation runs."""
        return self.strongest_BN > 0

    @classmethod
    def of_route(cls, route: Route, *, num_images: int = 1, like: Tensor | None = None) -> Routing:
        """Return the routing of images that all take a fixed route; float64, on the device of `like` or the CPU."""
        assert route.is_fixed
        like = torch.empty(()) if like is None else like
        gates_E = cached_tensor(route.fixed_gates, dtype=torch.float64, like=like)
        reached_N = cached_tensor(route.reached_cells, dtype=torch.bool, like=like)
        return cls(route.lattice, gates_E.repeat(num_images, 1), reached_N.repeat(num_images, 1))

    @classmethod
    def of_gates(cls, route: Route, gates_BE: Tensor, *, unreached: Unreached) -> Routing:
        """Return the routing in evaluation of images with known gate values.

        Args:
            route: Route of the network.
            gates_BE: Gate values, 0 for closed and unreached cells, on the CPU.
            unreached: The network's policy.
        """
        lattice, none_B = route.lattice, torch.zeros(len(gates_BE), dtype=torch.bool)
        running = {lattice.source, *(route.cells if unreached.runs(training=False) else ())}
        reached = {node: ~none_B if node in running else none_B for node in (*lattice.nodes, *lattice.outputs)}
        active = dict(zip(lattice.edges, (gates_BE > 0).unbind(dim=1), strict=True))
        for node in lattice.nodes:
            edges = route.edges_from(node)
            open_B = torch.stack([none_B, *(active[edge] for edge in edges)]).any(dim=0)
            for edge in edges:
                reached[edge.target] = reached[edge.target] | delivering(active[edge], open_B, unreached)
            keep = Edge(node, Move.KEEP).target
            reached[keep] = reached[keep] | (reached[node] & ~open_B)
        return cls(lattice, gates_BE, torch.stack([reached[node] for node in lattice.nodes], dim=1))

    @classmethod
    def all_open(cls, lattice: Lattice, *, num_images: int = 1) -> Routing:
        """Return the routing with every gate at one."""
        return cls.of_route(Route.whole(lattice, gated=False), num_images=num_images)


def delivering(active: Images, opens: Images, policy: Unreached) -> Images:
    """Return the images for which an edge delivers: the published evaluation counts every edge of an open cell."""
    return opens if policy is Unreached.PUBLISHED else active


def gate_openness(lattice: Lattice, gates_BE: Tensor) -> dict[str, Tensor]:
    """Return the mean gate value per scale (0-d, without gradients), by names such as `gate_stride_4`, finest first."""
    mean_E = gates_BE.detach().mean(dim=0)
    columns: dict[int, list[int]] = {}
    for column, edge in enumerate(lattice.edges):
        columns.setdefault(edge.source.stride, []).append(column)
    return {
        f"gate_stride_{stride}": mean_E[cached_tensor(tuple(columns[stride]), dtype=torch.int64, like=mean_E)].mean()
        for stride in sorted(columns)
    }
