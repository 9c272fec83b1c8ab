"""Latency table of a routed network: milliseconds of every part on one device, for one image of one size."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dl_lib.modeling.costs.part_table import PartTable
from dl_lib.modeling.dynamic.lattice import Edge, Node
from dl_lib.modeling.dynamic.route import Route

__all__ = ["LatencyConditions", "LatencyTable"]


@dataclass(frozen=True)
class LatencyConditions:
    """Conditions of a measurement.

    Attributes:
        device: Name of the processor or GPU.
        threads: CPU threads of torch.
        precision: Precision of the weights and feature maps.
        versions: Version of each library, by name.
        size: Height and width in pixels of the padded image.
        network: Config values that determine the parts of the network other than its route, by key.
        route: Route of the network.
    """

    device: str
    threads: int
    precision: str
    versions: Mapping[str, str]
    size: tuple[int, int]
    network: Mapping[str, Any]
    route: Route

    @property
    def size_text(self) -> str:
        """Size as HEIGHTxWIDTH."""
        return "{}x{}".format(*self.size)


@dataclass(frozen=True, eq=False)
class LatencyTable(PartTable[float]):
    """Milliseconds of every part in sparse execution of one image, measured by `dl_lib.inference.latency`.

    The time of a part includes the additions and the Python code after it, so that the sum over the parts that run
    (`real_complete`) is the latency of the image.

    Attributes:
        stem: Normalization of the image, and stem.
        head: Head, and resizing of its logits to the size of the image.
        decisions: Transfer of the gate values of all layers to the host, and closing of cells.
        conditions: Conditions of the measurement.
    """

    decisions: float
    conditions: LatencyConditions

    @classmethod
    def of_parts(
        cls,
        conditions: LatencyConditions,
        *,
        scalars: Mapping[str, float],
        operations: Mapping[Node, float],
        gates: Mapping[Node, float],
        transitions: Mapping[Edge, float],
    ) -> LatencyTable:
        """Return the table of a network from the milliseconds of its parts.

        Args:
            conditions: Conditions of the measurement.
            scalars: `stem`, `head` and `decisions`.
            operations: Milliseconds of the cells of the route.
            gates: Milliseconds of their learned gates.
            transitions: Milliseconds of the edges of the route.
        """
        lattice = conditions.route.lattice
        absent = dict.fromkeys(lattice.nodes, 0.0)
        return cls(
            lattice,
            **scalars,
            operations=absent | dict(operations),
            gates=absent | dict(gates),
            transitions=dict.fromkeys(lattice.edges, 0.0) | dict(transitions),
            conditions=conditions,
        )

    @property
    def unconditional(self) -> float:
        return super().unconditional + self.decisions
