"""Routes as data: the open edges of a lattice, with fixed gate values or learned gates, in pure Python.

A network with a route holds only its parts; see `MODEL.BACKBONE.ROUTE`.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from dl_lib.modeling.dynamic.lattice import Edge, Lattice, Move, Node
from dl_lib.utils.names import nearest_names

__all__ = ["CLOSED_BELOW", "MAX_ROUTE_ENTRIES", "Route", "may_close"]

CLOSED_BELOW = 1e-4  # a cell is closed for an image if the sum of its gates is below this
MAX_ROUTE_ENTRIES = 10_000  # more than the largest lattice has edges
_MAX_LAYERS, _MAX_SCALES = 256, 8
_PASS, _GATE = "pass", "gate"
_CELLS_KEY, _ROUTE_KEY = "cells_per_layer", "route"


@dataclass(frozen=True)
class Route:
    """Open edges of a lattice.

    As text, a route is a list of entries: `layer0_stride4.keep` (gate value 1), `layer0_stride4.keep=0.73` (another
    fixed value), `layer0_stride4.keep=gate` (a learned gate decides) and `layer1_stride8.pass` (the cell passes its
    input on).

    Attributes:
        lattice: Lattice of the edges.
        gates: Gate value of each open edge, in [`CLOSED_BELOW`, 1]; None if a learned gate decides for each image.
        passes: Cells without an open edge that pass their input on along keep, like a closed cell.

    Raises:
        ValueError: If a gate value is outside the range, an edge or pass is disconnected from the source, or a cell
            that receives an input has neither an edge nor a pass, so that its input reaches no output. The message
            names the edge.
    """

    lattice: Lattice
    gates: Mapping[Edge, float | None]
    passes: frozenset[Node] = frozenset()

    def __post_init__(self) -> None:
        for edge, value in self.gates.items():
            if value is not None and not CLOSED_BELOW <= value <= 1:
                raise ValueError(f"gate values must be from {CLOSED_BELOW} to 1. Received: {_entry(edge, value)}")
        self._check_connections()

    def __hash__(self) -> int:
        return hash((self.lattice, frozenset(self.gates.items()), self.passes))

    @classmethod
    def whole(cls, lattice: Lattice, *, gated: bool) -> Route:
        """Return the route with all edges, with learned gates or with every gate value at 1."""
        return cls(lattice, dict.fromkeys(lattice.edges, None if gated else 1.0))

    @classmethod
    def connected(cls, lattice: Lattice, gates: Mapping[Edge, float | None]) -> Route:
        """Return the route of those edges that the source reaches; cells without one pass their input on."""
        kept: dict[Edge, float | None] = {}
        passes, reached = set(), {lattice.source}
        for node in lattice.nodes:
            if node not in reached:
                continue
            edges = [edge for edge in lattice.edges_from(node) if edge in gates]
            kept |= {edge: gates[edge] for edge in edges}
            passes |= set() if edges else {node}
            reached |= {edge.target for edge in edges}
            if may_close([gates[edge] for edge in edges]):
                reached.add(Edge(node, Move.KEEP).target)
        return cls(lattice, kept, frozenset(passes))

    @classmethod
    def parse(cls, lattice: Lattice, entries: Iterable[str]) -> Route:
        """Read a route from its entries.

        Raises:
            ValueError: If an entry is unknown or occurs twice, or the route is invalid.
        """
        edges, nodes = {str(edge): edge for edge in lattice.edges}, {str(node): node for node in lattice.nodes}
        gates: dict[Edge, float | None] = {}
        passes: set[Node] = set()
        for entry in entries:
            name, has_value, value = entry.partition("=")
            cell, _, move = name.rpartition(".")
            if move == _PASS and not has_value and cell in nodes:
                found: Edge | Node = nodes[cell]
            elif name in edges:
                found = edges[name]
            else:
                raise ValueError(
                    "a route must contain edges of the lattice, such as layer0_stride4.keep, and passes, such as "
                    f"layer1_stride8.pass; {nearest_names(name, edges)}. Received: {entry}"
                )
            if found in gates or found in passes:
                raise ValueError(f"a route must not contain an entry twice. Received: {entry}")
            if isinstance(found, Node):
                passes.add(found)
            else:
                gates[found] = _gate_value(value, entry=entry) if has_value else 1.0
        return cls(lattice, gates, frozenset(passes))

    def entries(self) -> list[str]:
        """Return the entries in the order of the lattice; `parse` reads them back to an equal route."""
        texts = []
        for node in self.lattice.nodes:
            texts += [_entry(edge, self.gates[edge]) for edge in self.edges_from(node)]
            texts += [f"{node}.{_PASS}"] if node in self.passes else []
        return texts

    @classmethod
    def from_json(cls, text: str | bytes) -> Route:
        """Read a route from JSON, as written by `to_json`.

        Raises:
            ValueError: If the text is not the JSON of a route, or the route is invalid.
        """
        try:
            content = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"a route file must contain JSON: {error}") from error
        return cls.from_content(content)

    def to_json(self) -> str:
        """Return the route as JSON, see `to_content`."""
        return json.dumps(self.to_content(), indent=1) + "\n"

    @classmethod
    def from_content(cls, content: Any) -> Route:
        """Return the route of decoded JSON, as returned by `to_content`.

        Raises:
            ValueError: If the content is not that of a route, or the route is invalid.
        """
        if not isinstance(content, dict) or content.keys() != {_CELLS_KEY, _ROUTE_KEY}:
            raise ValueError(f"a route file must contain an object with the keys {_CELLS_KEY} and {_ROUTE_KEY}")
        cells, entries = content[_CELLS_KEY], content[_ROUTE_KEY]
        if not _is_list(cells, int, _MAX_LAYERS) or not all(1 <= count <= _MAX_SCALES for count in cells):
            raise ValueError(f"{_CELLS_KEY} must be a list of up to {_MAX_LAYERS} numbers from 1 to {_MAX_SCALES}")
        if not _is_list(entries, str, MAX_ROUTE_ENTRIES):
            raise ValueError(f"{_ROUTE_KEY} must be a list of up to {MAX_ROUTE_ENTRIES} texts")
        return cls.parse(Lattice(cells), entries)

    def to_content(self) -> dict[str, Any]:
        """Return the content of its JSON: its lattice as `cells_per_layer` and its entries as `route`."""
        return {_CELLS_KEY: list(self.lattice.cells_per_layer), _ROUTE_KEY: self.entries()}

    @property
    def is_fixed(self) -> bool:
        """True if no learned gate decides, so that every image takes the same route."""
        return None not in self.gates.values()

    @property
    def is_whole(self) -> bool:
        """True if the route is that of `whole`: every edge of the lattice, all gated or all with the value 1."""
        return len(self.gates) == len(self.lattice.edges) and {*self.gates.values()} in ({None}, {1.0})

    @cached_property
    def edges(self) -> tuple[Edge, ...]:
        """Open edges in the order of the lattice."""
        return tuple(edge for edge in self.lattice.edges if edge in self.gates)

    def edges_from(self, node: Node) -> tuple[Edge, ...]:
        """Return the open edges of a cell in the order of its gate values."""
        return self._edges_from.get(str(node), ())

    def gates_of(self, node: Node) -> tuple[float | None, ...]:
        """Return the gate values of a cell's open edges."""
        return tuple(self.gates[edge] for edge in self.edges_from(node))

    @cached_property
    def cells(self) -> tuple[Node, ...]:
        """Cells with an open edge, layer by layer."""
        return tuple(node for node in self.lattice.nodes if self.edges_from(node))

    @cached_property
    def fixed_gates(self) -> tuple[float, ...]:
        """Fixed gate value of every edge of the lattice; 0 for closed edges and learned gates."""
        return tuple(self.gates.get(edge) or 0.0 for edge in self.lattice.edges)

    @cached_property
    def columns(self) -> tuple[int, ...]:
        """Positions of the open edges among the edges of the lattice."""
        return tuple(column for column, edge in enumerate(self.lattice.edges) if edge in self.gates)

    @cached_property
    def reached_cells(self) -> tuple[bool, ...]:
        """Mask of the lattice's cells that are in `reached`."""
        return tuple(node in self.reached for node in self.lattice.nodes)

    def passes_on(self, node: Node) -> bool:
        """Return whether a cell is one of `passes`."""
        return str(node) in self._pass_names

    @cached_property
    def reached(self) -> frozenset[Node]:
        """Cells and outputs that receive an input for some images, also from cells that pass theirs on."""
        reached = {self.lattice.source}
        for node in self.lattice.nodes:
            if node in reached:
                reached |= {edge.target for edge in self._possible_edges(node)}
        return frozenset(reached)

    def _possible_edges(self, node: Node) -> tuple[Edge, ...]:
        """Return the edges along which a reached cell may deliver."""
        keep = Edge(node, Move.KEEP)
        bypass = [keep] if keep not in self.gates and may_close(self.gates_of(node)) else []
        return (*self.edges_from(node), *(bypass if self.edges_from(node) or node in self.passes else []))

    @cached_property
    def _pass_names(self) -> frozenset[str]:
        return frozenset(map(str, self.passes))  # names for the reason in `_edges_from`

    @cached_property
    def _edges_from(self) -> dict[str, tuple[Edge, ...]]:
        # Keyed by name because torch 2.6 cannot compile dictionaries whose keys are objects.
        edges: dict[str, tuple[Edge, ...]] = {}
        for edge in self.edges:
            edges[str(edge.source)] = (*edges.get(str(edge.source), ()), edge)
        return edges

    def _check_connections(self) -> None:
        inner = {*self.lattice.nodes}
        if not self.edges_from(self.lattice.source) and self.lattice.source not in self.passes:
            raise ValueError(f"a route must contain an edge of the source cell. Received: {self._shown()}")
        for edge in self.edges:
            if edge.source not in self.reached:
                raise ValueError(f"{edge} is disconnected: no open edge leads to {edge.source}; {self._advice()}")
        for node in sorted(self.passes):
            if self.edges_from(node):
                raise ValueError(
                    f"{node}.{_PASS} must not be combined with edges of the cell; remove one of them. "
                    f"Received: {self._shown()}"
                )
            if node not in self.reached:
                raise ValueError(f"{node}.{_PASS} is disconnected: no open edge leads to {node}; {self._advice()}")
        for node in sorted(self.reached):
            for edge in self._possible_edges(node) if node in inner else ():
                target = edge.target
                if target in inner and not self.edges_from(target) and target not in self.passes:
                    raise ValueError(
                        f"{edge} leads to no output: {target} has no open edge; add one, or {target}.{_PASS} to pass "
                        f"its input on along keep. Received: {self._shown()}"
                    )

    def _advice(self) -> str:
        return f"open one, or remove it from the route. Received: {self._shown()}"

    def _shown(self) -> str:
        return f"edges={len(self.gates)}, passes={len(self.passes)}"


def may_close(gates: Collection[float | None]) -> bool:
    """Return whether a cell with these gates can be closed and pass its input on: without a fixed gate."""
    return all(value is None for value in gates)


def _entry(edge: Edge, value: float | None) -> str:
    return f"{edge}={_GATE}" if value is None else str(edge) if value == 1 else f"{edge}={value!r}"


def _gate_value(text: str, *, entry: str) -> float | None:
    if text == _GATE:
        return None
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"the value of a gate must be a number or {_GATE}. Received: {entry}") from None


def _is_list(value: Any, items: type, max_length: int) -> bool:
    return isinstance(value, list) and len(value) <= max_length and all(type(item) is items for item in value)
