"""Pictures of routes through the lattice, in the manner of the paper's figures: layers to the right, scales downwards.

All lengths are in points, that is pixels of the finished picture.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from dl_lib.evaluation.report.canvas import FAINT, INK, WHITE, Canvas, Picture, ramp_color, text_width
from dl_lib.modeling.dynamic.lattice import Lattice, Node

__all__ = ["draw_route", "node_center"]

_STEP_X, _STEP_Y = 64, 76  # between layers, between scales
_LEFT, _RIGHT, _TOP, _BOTTOM = 112, 112, 84, 92
_MARGIN = 24
_TITLE_SIZE, _CAPTION_SIZE = 17, 11
_NODE_RADIUS = 13.0
_OUTPUT_SIDE = 1.6 * _NODE_RADIUS
_THINNEST, _THICKEST = 1.2, 7.0  # edges with a gate just above 0, and of 1
_LEGEND_WIDTH, _LEGEND_GAP = 14, 48
_CAPTION = "line: mean gate value; cell: its most open way out; white: closed throughout"


def draw_route(lattice: Lattice, *, gates: Sequence[float], title: str = "") -> Picture:
    """Draws how open every edge of the lattice is.

    Edges are the thicker and darker the higher their gate; closed ones are not drawn. A cell has the colour of its
    most open way out, and stays white where all are closed. Squares at the right are the lattice's outputs.

    Args:
        lattice: the routing space.
        gates: (mean) gate value in [0, 1] of every edge, in the order of `lattice.edges`.
        title: a line above the picture.

    Returns:
        uint8 (height, width, 3), RGB.

    Raises:
        ValueError: if there is not one value in [0, 1] per edge.
    """
    _check_gates(gates, lattice=lattice)
    canvas = Canvas.blank(*_picture_size(lattice, title=title))
    openness = dict.fromkeys((*lattice.nodes, *lattice.outputs), 0.0)
    for edge, gate in sorted(zip(lattice.edges, gates, strict=True), key=lambda pair: pair[1]):  # the open ones on top
        openness[edge.source] = max(openness[edge.source], gate)
        if edge.target.layer > lattice.num_layers:
            openness[edge.target] = gate
        if gate > 0:
            width = _THINNEST + (_THICKEST - _THINNEST) * gate
            canvas.line(node_center(edge.source), node_center(edge.target), width=width, color=ramp_color(gate))
    for place, value in openness.items():
        fill, border = (ramp_color(value), INK) if value > 0 else (WHITE, FAINT)
        if place.layer > lattice.num_layers:
            canvas.square(node_center(place), side=_OUTPUT_SIDE, fill=fill, border=border)
        else:
            canvas.disc(node_center(place), radius=_NODE_RADIUS, fill=fill, border=border)
    _draw_axes(canvas, lattice=lattice, title=title)
    _draw_legend(canvas, lattice=lattice)
    return canvas.finished()


def node_center(node: Node) -> tuple[float, float]:
    """Where a cell (or output) is drawn: x, y in pixels of the finished picture."""
    return _LEFT + node.layer * _STEP_X, _TOP + node.scale * _STEP_Y


def _check_gates(gates: Sequence[float], *, lattice: Lattice) -> None:
    if len(gates) != len(lattice.edges):
        raise ValueError(
            f"a lattice with {len(lattice.edges)} edges needs as many gate values. Received: len(gates)={len(gates)}"
        )
    wrong = {str(edge): gate for edge, gate in zip(lattice.edges, gates, strict=True) if not 0 <= gate <= 1}
    if wrong:
        raise ValueError(f"gate values have to lie in [0, 1]. Received: gates={wrong}")


def _picture_size(lattice: Lattice, *, title: str) -> tuple[int, int]:
    """Height and width in points."""
    height = _TOP + (max(lattice.cells_per_layer) - 1) * _STEP_Y + _BOTTOM
    lines = ((title, _TITLE_SIZE), (_CAPTION, _CAPTION_SIZE))
    longest = math.floor(max(text_width(text, size=size) for text, size in lines))
    return height, max(_LEFT + (lattice.num_layers + 1) * _STEP_X + _RIGHT, longest + 2 * _MARGIN)


def _draw_axes(canvas: Canvas, *, lattice: Lattice, title: str) -> None:
    bottom = _TOP + (max(lattice.cells_per_layer) - 1) * _STEP_Y + 38
    for scale in range(max(lattice.cells_per_layer)):
        node = Node(0, scale)
        canvas.text(f"stride {node.stride}", at=(_LEFT - 28, node_center(node)[1]), align="right")
    for layer in range(lattice.num_layers + 1):
        canvas.text(str(layer), at=(node_center(Node(layer, 0))[0], bottom), align="center")
    canvas.text("out", at=(node_center(lattice.outputs[0])[0], bottom), align="center")
    canvas.text("layer", at=(_LEFT - 28, bottom), align="right")
    canvas.text(_CAPTION, at=(_MARGIN, bottom + 30), align="left", size=_CAPTION_SIZE)
    if title:
        canvas.text(title, at=(_MARGIN, 32), align="left", size=_TITLE_SIZE)


def _draw_legend(canvas: Canvas, *, lattice: Lattice) -> None:
    """A colour bar with the values of its ends and middle."""
    left = node_center(lattice.outputs[0])[0] + _LEGEND_GAP
    top, bottom = float(_TOP), _TOP + max(1, max(lattice.cells_per_layer) - 1) * _STEP_Y
    canvas.ramp((left, top), size=(_LEGEND_WIDTH, bottom - top))
    for gate in (0.0, 0.5, 1.0):
        canvas.text(f"{gate:g}", at=(left + _LEGEND_WIDTH + 7, bottom - gate * (bottom - top)), align="left")
    canvas.text("gate", at=(left + _LEGEND_WIDTH / 2, top - 22), align="center")
