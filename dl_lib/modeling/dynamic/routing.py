"""A decision as one value: which edges of the lattice are open, image by image.

Shape suffixes: B images, E edges of the lattice, N nodes of the lattice.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.nn.functional import pad

from dl_lib.modeling.dynamic.lattice import Lattice
from dl_lib.utils.cached_tensors import cached_tensor

__all__ = ["CLOSED_BELOW", "Routing", "Unreached"]

CLOSED_BELOW = 1e-4  # a cell is closed for an image whose gates there sum up to less


class Unreached(enum.Enum):
    """What a cell does for an image that nothing is delivered for (`MODEL.GATE.UNREACHED`)."""

    SKIP = "skip"  # silent, in training and evaluation alike
    RUN = "run"  # runs on zeros, always
    PUBLISHED = "published"  # runs on zeros in training and is silent in evaluation, as the released models were made

    def runs(self, *, training: bool) -> bool:
        return self is Unreached.RUN or (self is Unreached.PUBLISHED and training)


@dataclass(frozen=True, eq=False)
class Routing:
    """What the gates decided for a batch.

    Attributes:
        lattice: the lattice that is routed through.
        gates_BE: gate values, 0 for closed and unreached cells; columns in the order of `lattice.edges`.
        reached_BN: True where something is delivered to the cell, or it runs all the same; `lattice.nodes` order.
    """

    lattice: Lattice
    gates_BE: Tensor
    reached_BN: Tensor

    @cached_property
    def strongest_BN(self) -> Tensor:
        """Largest gate of each cell."""
        # Gates are not negative: a column of zeros behind the last stands in for the ways out that a cell lacks.
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
    def all_open(cls, lattice: Lattice, *, num_images: int = 1) -> Routing:
        """Every gate at one."""
        gates_BE = torch.ones(num_images, len(lattice.edges), dtype=torch.float64)
        return cls(lattice, gates_BE, torch.ones(num_images, len(lattice.nodes), dtype=torch.bool))
