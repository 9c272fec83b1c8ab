"""Lattice with its gate values as inline SVG, in the style of the figures (`visualization/routing.py`).

Layers run to the right, scales downwards.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from dl_lib.modeling.dynamic.lattice import Edge, Lattice, Node
from dl_lib.web.pages.templating import render

__all__ = ["lattice_svg"]

_STEP, _SCALE_STEP = 44, 56  # between layers and between scales, in units of the view box like all lengths
_LEFT, _MARGIN = 64, 24  # for the names of the scales, around the lattice
_AXIS = 28  # for the numbers of the layers
_RADIUS = 10


def lattice_svg(
    lattice: Lattice, *, gates: Sequence[float], label: str, notes: Mapping[Edge, str] | None = None
) -> Markup:
    """Draw the gate value of every edge.

    Open edges get wider and stronger in color with their gate value; closed edges are dotted. Pointing at an edge shows
    its name, gate value and note. The page provides the style `lattice.css`.

    Args:
        lattice: Routing space.
        gates: Gate values in [0, 1], of one image or the mean of several, in the order of `lattice.edges`.
        label: Description for screen readers.
        notes: Further text by edge, such as its cost.
    """
    notes = notes or {}
    edges = [
        _edge_values(edge, gate, note=notes.get(edge, "")) for edge, gate in zip(lattice.edges, gates, strict=True)
    ]
    nodes = [
        {"name": str(node), "at": _position(node), "is_output": node in lattice.outputs, "gate": gate}
        for node, gate in lattice.strongest_gates(gates).items()
    ]
    right, bottom = _position(lattice.outputs[-1])
    return render(
        "lattice.svg",
        label=label,
        width=right + _MARGIN,
        height=bottom + _MARGIN + _AXIS,
        radius=_RADIUS,
        edges=sorted(edges, key=lambda values: values["gate"]),  # strong gates are drawn over weak ones
        nodes=nodes,
        scales=[(f"stride {node.stride}", _position(node)[1]) for node in lattice.outputs],
        layers=_layer_ticks(lattice),
        axis=bottom + _MARGIN + _AXIS // 2,
    )


def _edge_values(edge: Edge, gate: float, *, note: str) -> dict[str, Any]:
    return {
        "name": str(edge),
        "gate": gate,
        "start": _position(edge.source),
        "end": _position(edge.target),
        "source": str(edge.source),
        "target": str(edge.target),
        "note": note,
    }


def _position(node: Node) -> tuple[int, int]:
    return _LEFT + _MARGIN + node.layer * _STEP, _MARGIN + node.scale * _SCALE_STEP


def _layer_ticks(lattice: Lattice) -> list[tuple[str, int]]:
    names = {layer[0]: str(layer[0].layer) for layer in lattice.layers} | {lattice.outputs[0]: "out"}
    return [(name, _position(node)[0]) for node, name in names.items()]
