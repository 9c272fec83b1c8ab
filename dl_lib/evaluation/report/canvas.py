"""A picture to draw on, in points: pixels of the finished picture.

Everything is drawn at `_OVERSAMPLING` times the size, then shrunk: opencv's own antialiasing knows neither fractional
widths nor the places where strokes meet. All pictures are uint8 (height, width, 3), RGB.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

__all__ = ["FAINT", "INK", "WHITE", "Canvas", "Color", "Picture", "encode_png", "ramp_color", "text_width"]

Picture = npt.NDArray[np.uint8]
Color = tuple[int, int, int]
Point = tuple[float, float]  # x, y

WHITE, INK, FAINT = (255, 255, 255), (44, 52, 64), (170, 178, 190)

_OVERSAMPLING = 3
_BORDER = 4  # pixels before shrinking
_LABEL_SIZE = 13
# Values from 0 to 1 in even steps: ever darker, so that the order survives a black-and-white print.
_RAMP = ((214, 230, 244), (148, 196, 223), (74, 152, 201), (23, 100, 171), (8, 48, 107))


@dataclass(frozen=True)
class Canvas:
    """Pixels at `_OVERSAMPLING` times the finished size; all arguments are in points."""

    pixels: Picture

    @classmethod
    def blank(cls, height: int, width: int) -> Canvas:
        return cls(np.full((height * _OVERSAMPLING, width * _OVERSAMPLING, 3), 255, dtype=np.uint8))

    def finished(self) -> Picture:
        height, width = (side // _OVERSAMPLING for side in self.pixels.shape[:2])
        return np.asarray(cv2.resize(self.pixels, (width, height), interpolation=cv2.INTER_AREA), dtype=np.uint8)

    def line(self, start: Point, end: Point, *, width: float, color: Color) -> None:
        thickness = max(1, round(width * _OVERSAMPLING))
        cv2.line(self.pixels, _scaled(start), _scaled(end), color, thickness, cv2.LINE_AA)

    def disc(self, center: Point, *, radius: float, fill: Color, border: Color) -> None:
        at, radius_px = _scaled(center), round(radius * _OVERSAMPLING)
        cv2.circle(self.pixels, at, radius_px, fill, cv2.FILLED, cv2.LINE_AA)
        cv2.circle(self.pixels, at, radius_px, border, _BORDER, cv2.LINE_AA)

    def square(self, center: Point, *, side: float, fill: Color, border: Color) -> None:
        corner, opposite = (_scaled((center[0] + half, center[1] + half)) for half in (-side / 2, side / 2))
        cv2.rectangle(self.pixels, corner, opposite, fill, cv2.FILLED)
        cv2.rectangle(self.pixels, corner, opposite, border, _BORDER)

    def bar(self, corner: Point, *, size: tuple[float, float], fill: Color) -> None:
        """A filled rectangle; `size` is (width, height)."""
        cv2.rectangle(
            self.pixels, _scaled(corner), _scaled((corner[0] + size[0], corner[1] + size[1])), fill, cv2.FILLED
        )

    def cells(self, corner: Point, *, colors: Picture, side: int) -> None:
        """A grid of squares, as large as `side`, one for each of the colours (rows, columns, 3)."""
        left, top = _scaled(corner)
        blocks = colors.repeat(side * _OVERSAMPLING, axis=0).repeat(side * _OVERSAMPLING, axis=1)
        self.pixels[top : top + blocks.shape[0], left : left + blocks.shape[1]] = blocks

    def ramp(self, corner: Point, *, size: tuple[float, float]) -> None:
        """A bar of all colours, 1 at the top; `size` is (width, height)."""
        (left, top), (right, bottom) = _scaled(corner), _scaled((corner[0] + size[0], corner[1] + size[1]))
        self.pixels[top:bottom, left:right] = ramp_colors(np.linspace(1, 0, bottom - top))[:, None]
        cv2.rectangle(self.pixels, (left, top), (right, bottom), INK, _BORDER)

    def text(self, text: str, *, at: Point, align: str, size: float = _LABEL_SIZE, color: Color = INK) -> None:
        """Writes a line centred on `at` vertically, and as `align` says horizontally: left, center or right of it."""
        width, height = _pixel_size(text, size=size)
        x, y = _scaled(at)
        x -= {"left": 0, "center": width // 2, "right": width}[align]
        cv2.putText(self.pixels, text, (x, y + height // 2), *_font(size), color, _font_weight(size), cv2.LINE_AA)

    def upright_text(self, text: str, *, at: Point, size: float) -> None:
        """Writes a line from `at` upwards, on ground that is white: opencv itself only writes to the right."""
        (width, height), baseline = cv2.getTextSize(text, *_font(size), _font_weight(size))
        strip = np.full((height + 2 * baseline, width, 3), 255, dtype=np.uint8)
        cv2.putText(strip, text, (0, height + baseline), *_font(size), INK, _font_weight(size), cv2.LINE_AA)
        x, y = _scaled(at)
        left = x - len(strip) // 2
        self.pixels[y - width : y, left : left + len(strip)] = np.rot90(strip)


def ramp_color(value: float) -> Color:
    """RGB colour of a value in [0, 1]; the higher, the darker."""
    red, green, blue = ramp_colors(np.array(value)).tolist()
    return red, green, blue


def ramp_colors(values: npt.NDArray[np.float64]) -> Picture:
    """RGB colours (..., 3) of values (...) in [0, 1]."""
    places = np.linspace(0, 1, len(_RAMP))
    channels = [np.interp(values, places, channel) for channel in zip(*_RAMP, strict=True)]
    return np.rint(np.stack(channels, axis=-1)).astype(np.uint8)


def encode_png(picture: Picture) -> bytes:
    """The bytes of a PNG file of an RGB picture."""
    done, data = cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    assert done, "opencv could not encode a uint8 picture"
    return data.tobytes()


def text_width(text: str, *, size: float) -> float:
    """Width of a line of text in points."""
    return _pixel_size(text, size=size)[0] / _OVERSAMPLING


def _font(size: float) -> tuple[int, float]:
    # opencv 4 draws its stroke font, opencv 5 an outline font of about the same size: nothing relies on either.
    return cv2.FONT_HERSHEY_SIMPLEX, size * _OVERSAMPLING / 30


def _font_weight(size: float) -> int:
    return max(1, round(size * _OVERSAMPLING / 20))


def _pixel_size(text: str, *, size: float) -> tuple[int, int]:
    """Width and height in pixels before shrinking."""
    (width, height), _ = cv2.getTextSize(text, *_font(size), _font_weight(size))
    return width, height


def _scaled(point: Point) -> tuple[int, int]:
    return round(point[0] * _OVERSAMPLING), round(point[1] * _OVERSAMPLING)
