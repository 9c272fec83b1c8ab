"""One chart: curves over a common axis, with what is needed to read them.

All lengths are in points, that is pixels of the finished picture.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from dl_lib.evaluation.report.canvas import FAINT, INK, WHITE, Canvas, Color, text_width
from dl_lib.plots.axis import Axis, short_number

__all__ = ["Chart", "Curve", "Mark", "draw_chart", "fitted_text", "plot_area"]

Point = tuple[float, float]  # x, y

_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 14, 32, 26  # beside the plot, for numbers and title
_TITLE_SIZE, _NUMBER_SIZE = 13.0, 10.0
_CURVE_WIDTH, _BACKDROP_WIDTH, _GRID_WIDTH = 1.6, 0.8, 0.7
_GRID = (230, 233, 238)
_DISC_RADIUS = 2.6
_PALENESS = 0.68  # of what stands behind: the share of white in its colour
_ROOM_BETWEEN_NUMBERS = 14


@dataclass(frozen=True)
class Curve:
    """Values over values, both finite.

    Attributes:
        xs: ascending.
        ys: one for each.
        color: of the line.
        backdrop: values at the same places that are drawn behind all curves, pale; empty for none.
        has_discs: a disc at each value, for curves of few.
    """

    xs: Sequence[float]
    ys: Sequence[float]
    color: Color
    backdrop: Sequence[float] = ()
    has_discs: bool = False


@dataclass(frozen=True)
class Mark:
    """A place on the horizontal axis that is pointed out, and what is written there."""

    x: float
    text: str


@dataclass(frozen=True)
class Chart:
    """What is drawn.

    Attributes:
        title: with the unit of the values.
        curves: drawn one over the other.
        x_axis: holds their places.
        y_axis: holds their values.
        marks: places that are pointed out.
    """

    title: str
    curves: tuple[Curve, ...]
    x_axis: Axis
    y_axis: Axis
    marks: tuple[Mark, ...] = ()


@dataclass(frozen=True)
class _Area:
    """Where the values of a chart are drawn."""

    left: float
    top: float
    width: float
    height: float

    def at(self, x_share: float, y_share: float) -> Point:
        """Of shares of the axes; vertical ones grow upwards."""
        return self.left + x_share * self.width, self.top + (1 - y_share) * self.height


def plot_area(corner: Point, *, size: tuple[float, float]) -> _Area:
    """The part of a chart (width, height) with its upper left corner there that holds the curves."""
    return _Area(corner[0] + _LEFT, corner[1] + _TOP, size[0] - _LEFT - _RIGHT, size[1] - _TOP - _BOTTOM)


def draw_chart(canvas: Canvas, chart: Chart, *, corner: Point, size: tuple[float, float]) -> None:
    """Draws a chart onto a canvas.

    Args:
        canvas: to draw on.
        chart: what.
        corner: upper left, x and y.
        size: (width, height) of all of it.
    """
    area = plot_area(corner, size=size)
    _draw_grid(canvas, chart, area=area)
    for curve in chart.curves:
        points = _places(curve.xs, curve.backdrop, chart=chart, area=area) if curve.backdrop else []
        _draw_line(canvas, points, width=_BACKDROP_WIDTH, color=_pale(curve.color))
    for curve in chart.curves:
        points = _places(curve.xs, curve.ys, chart=chart, area=area)
        _draw_line(canvas, points, width=_CURVE_WIDTH, color=curve.color)
        if curve.has_discs or len(points) == 1:
            for point in points:
                canvas.disc(point, radius=_DISC_RADIUS, fill=curve.color, border=curve.color)
    for mark in chart.marks:
        _draw_mark(canvas, mark, chart=chart, area=area)
    title = fitted_text(chart.title, size=_TITLE_SIZE, room=size[0] - _LEFT)
    canvas.text(title, at=(area.left, corner[1] + _TOP / 2), align="left", size=_TITLE_SIZE)


def fitted_text(text: str, *, size: float, room: float) -> str:
    """The text, or as much of its beginning as there is room for."""
    if text_width(text, size=size) <= room:
        return text
    length = next(n for n in range(len(text) - 1, -1, -1) if text_width(f"{text[:n]}...", size=size) <= room or n == 0)
    return f"{text[:length]}..."


def _draw_grid(canvas: Canvas, chart: Chart, *, area: _Area) -> None:
    """Lines at round values, their numbers, and the frame."""
    for y in chart.y_axis.ticks():
        share = chart.y_axis.place(y)
        canvas.line(area.at(0, share), area.at(1, share), width=_GRID_WIDTH, color=_GRID)
        beside = (area.left - 6, area.at(0, share)[1])
        canvas.text(short_number(y), at=beside, align="right", size=_NUMBER_SIZE)
    ends_at = float("-inf")
    for x in chart.x_axis.ticks():
        share, number = chart.x_axis.place(x), short_number(x)
        canvas.line(area.at(share, 0), area.at(share, 1), width=_GRID_WIDTH, color=_GRID)
        center, half = area.at(share, 0)[0], text_width(number, size=_NUMBER_SIZE) / 2
        if center - half >= ends_at + _ROOM_BETWEEN_NUMBERS:
            canvas.text(number, at=(center, area.at(0, 0)[1] + 12), align="center", size=_NUMBER_SIZE)
            ends_at = center + half
    for end in ((1, 0), (0, 1)):
        canvas.line(area.at(0, 0), area.at(*end), width=1, color=FAINT)


def _draw_mark(canvas: Canvas, mark: Mark, *, chart: Chart, area: _Area) -> None:
    share = chart.x_axis.place(mark.x)
    (x, bottom), (_, top) = area.at(share, 0), area.at(share, 1)
    canvas.line((x, bottom), (x, top), width=1, color=INK)
    align, beside = ("left", 6) if share < 0.5 else ("right", -6)
    canvas.text(mark.text, at=(x + beside, top + 8), align=align, size=_NUMBER_SIZE)


def _draw_line(canvas: Canvas, points: Sequence[Point], *, width: float, color: Color) -> None:
    for start, end in pairwise(points):
        canvas.line(start, end, width=width, color=color)


def _places(xs: Sequence[float], ys: Iterable[float], *, chart: Chart, area: _Area) -> list[Point]:
    """Where values lie; of more than a column of points can show, the highest and lowest of each."""
    columns: dict[int, list[Point]] = {}
    for x, y in zip(xs, ys, strict=True):
        point = area.at(chart.x_axis.place(x), chart.y_axis.place(y))
        columns.setdefault(int(point[0]), []).append(point)
    places: list[Point] = []
    for column in columns.values():
        by_height = sorted(column, key=lambda point: point[1])
        shown = column if len(column) < 3 else sorted((by_height[0], by_height[-1]))
        places += shown
    return places


def _pale(color: Color) -> Color:
    red, green, blue = (round(part + (white - part) * _PALENESS) for part, white in zip(color, WHITE, strict=True))
    return red, green, blue
