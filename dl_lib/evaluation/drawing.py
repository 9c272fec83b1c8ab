"""Pictures of routes through the lattice, in the manner of the paper's figures: layers to the right, scales downwards.

Everything is laid out in points and drawn at `_OVERSAMPLING` times the size, then shrunk: opencv's own antialiasing
knows neither fractional widths nor the places where strokes meet. All pictures are uint8 (height, width, 3), RGB.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from dl_lib.modeling.dynamic.lattice import Lattice, Node

__all__ = ["draw_route", "encode_png", "gate_color", "node_center"]

Picture = npt.NDArray[np.uint8]
Color = tuple[int, int, int]

# In points, that is pixels of the finished picture.
_STEP_X, _STEP_Y = 64, 76  # between layers, between scales
_LEFT, _RIGHT, _TOP, _BOTTOM = 112, 112, 84, 92
_MARGIN = 24
_TITLE_SIZE, _LABEL_SIZE, _CAPTION_SIZE = 17, 13, 11
_NODE_RADIUS = 13.0
_THINNEST, _THICKEST = 1.2, 7.0  # edges with a gate just above 0, and of 1
_LEGEND_WIDTH, _LEGEND_GAP = 14, 48
_OVERSAMPLING = 3
_BORDER = 4  # pixels before shrinking

_WHITE, _INK, _FAINT = (255, 255, 255), (44, 52, 64), (170, 178, 190)
_CAPTION = "line: mean gate value; cell: its most open way out; white: closed throughout"
# Gate values from 0 to 1 in even steps: ever darker, so that the order survives a black-and-white print.
_RAMP = ((214, 230, 244), (148, 196, 223), (74, 152, 201), (23, 100, 171), (8, 48, 107))


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
    canvas = _Canvas.blank(*_picture_size(lattice, title=title))
    openness = dict.fromkeys((*lattice.nodes, *lattice.outputs), 0.0)
    for edge, gate in sorted(zip(lattice.edges, gates, strict=True), key=lambda pair: pair[1]):  # the open ones on top
        openness[edge.source] = max(openness[edge.source], gate)
        if edge.target.layer > lattice.num_layers:
            openness[edge.target] = gate
        if gate > 0:
            width = _THINNEST + (_THICKEST - _THINNEST) * gate
            canvas.line(node_center(edge.source), node_center(edge.target), width=width, color=gate_color(gate))
    for place, value in openness.items():
        fill, border = (gate_color(value), _INK) if value > 0 else (_WHITE, _FAINT)
        draw = canvas.square if place.layer > lattice.num_layers else canvas.disc
        draw(node_center(place), fill=fill, border=border)
    _draw_axes(canvas, lattice=lattice, title=title)
    _draw_legend(canvas, lattice=lattice)
    return canvas.finished()


def gate_color(gate: float) -> Color:
    """RGB colour of a gate value in [0, 1]; the higher, the darker."""
    channels = (np.interp(gate, np.linspace(0, 1, len(_RAMP)), values) for values in zip(*_RAMP, strict=True))
    red, green, blue = (round(float(channel)) for channel in channels)
    return red, green, blue


def node_center(node: Node) -> tuple[float, float]:
    """Where a cell (or output) is drawn: x, y in pixels of the finished picture."""
    return _LEFT + node.layer * _STEP_X, _TOP + node.scale * _STEP_Y


def encode_png(picture: Picture) -> bytes:
    """The bytes of a PNG file of an RGB picture."""
    done, data = cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    assert done, "opencv could not encode a uint8 picture"
    return data.tobytes()


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
    longest = max(_text_size(text, size=size)[0] for text, size in lines) // _OVERSAMPLING
    return height, max(_LEFT + (lattice.num_layers + 1) * _STEP_X + _RIGHT, longest + 2 * _MARGIN)


def _draw_axes(canvas: _Canvas, *, lattice: Lattice, title: str) -> None:
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


def _draw_legend(canvas: _Canvas, *, lattice: Lattice) -> None:
    """A colour bar with the values of its ends and middle."""
    left = node_center(lattice.outputs[0])[0] + _LEGEND_GAP
    top, bottom = float(_TOP), _TOP + max(1, max(lattice.cells_per_layer) - 1) * _STEP_Y
    canvas.ramp((left, top), size=(_LEGEND_WIDTH, bottom - top))
    for gate in (0.0, 0.5, 1.0):
        canvas.text(f"{gate:g}", at=(left + _LEGEND_WIDTH + 7, bottom - gate * (bottom - top)), align="left")
    canvas.text("gate", at=(left + _LEGEND_WIDTH / 2, top - 22), align="center")


@dataclass(frozen=True)
class _Canvas:
    """Pixels at `_OVERSAMPLING` times the finished size; all arguments are in points."""

    pixels: Picture

    @classmethod
    def blank(cls, height: int, width: int) -> _Canvas:
        return cls(np.full((height * _OVERSAMPLING, width * _OVERSAMPLING, 3), 255, dtype=np.uint8))

    def finished(self) -> Picture:
        height, width = (side // _OVERSAMPLING for side in self.pixels.shape[:2])
        return np.asarray(cv2.resize(self.pixels, (width, height), interpolation=cv2.INTER_AREA), dtype=np.uint8)

    def line(self, start: tuple[float, float], end: tuple[float, float], *, width: float, color: Color) -> None:
        thickness = max(1, round(width * _OVERSAMPLING))
        cv2.line(self.pixels, _scaled(start), _scaled(end), color, thickness, cv2.LINE_AA)

    def disc(self, center: tuple[float, float], *, fill: Color, border: Color) -> None:
        at, radius = _scaled(center), round(_NODE_RADIUS * _OVERSAMPLING)
        cv2.circle(self.pixels, at, radius, fill, cv2.FILLED, cv2.LINE_AA)
        cv2.circle(self.pixels, at, radius, border, _BORDER, cv2.LINE_AA)

    def square(self, center: tuple[float, float], *, fill: Color, border: Color) -> None:
        half = 0.8 * _NODE_RADIUS
        corner, opposite = (_scaled((center[0] + side, center[1] + side)) for side in (-half, half))
        cv2.rectangle(self.pixels, corner, opposite, fill, cv2.FILLED)
        cv2.rectangle(self.pixels, corner, opposite, border, _BORDER)

    def ramp(self, corner: tuple[float, float], *, size: tuple[float, float]) -> None:
        """A bar of all gate colours, 1 at the top."""
        (left, top), (right, bottom) = _scaled(corner), _scaled((corner[0] + size[0], corner[1] + size[1]))
        for row in range(top, bottom):
            self.pixels[row, left:right] = gate_color((bottom - row) / (bottom - top))
        cv2.rectangle(self.pixels, (left, top), (right, bottom), _INK, _BORDER)

    def text(self, text: str, *, at: tuple[float, float], align: str, size: int = _LABEL_SIZE) -> None:
        """Writes a line centred on `at` vertically, and as `align` says horizontally: left, center or right of it."""
        width, height = _text_size(text, size=size)
        x, y = _scaled(at)
        x -= {"left": 0, "center": width // 2, "right": width}[align]
        cv2.putText(self.pixels, text, (x, y + height // 2), *_font(size), _INK, _font_weight(size), cv2.LINE_AA)


def _font(size: int) -> tuple[int, float]:
    # opencv 4 draws its stroke font, opencv 5 an outline font of about the same size: nothing relies on either.
    return cv2.FONT_HERSHEY_SIMPLEX, size * _OVERSAMPLING / 30


def _font_weight(size: int) -> int:
    return max(1, round(size * _OVERSAMPLING / 20))


def _text_size(text: str, *, size: int) -> tuple[int, int]:
    """Width and height in pixels before shrinking."""
    (width, height), _ = cv2.getTextSize(text, *_font(size), _font_weight(size))
    return width, height


def _scaled(point: tuple[float, float]) -> tuple[int, int]:
    return round(point[0] * _OVERSAMPLING), round(point[1] * _OVERSAMPLING)
