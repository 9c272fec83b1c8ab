"""Score over cost of labelled points, with the Pareto front."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

from dl_lib.visualization.figure import (
    CAPTION_SIZE,
    COLORS,
    TEXT_COLOR,
    add_title,
    figure_function,
    new_figure,
    plain_numbers,
    printable,
)

__all__ = ["ParetoPoint", "draw_pareto"]

_PANEL_WIDTH, _HEIGHT = 4.4, 3.8
_MARKER_SIZE = 6.0
_OFFSETS = [  # of a label from its point, in points, in the order in which they are tried
    (x * distance, y * distance)
    for distance in (9, 16, 24)
    for x, y in ((0, 1), (0, -1), (-0.8, 0.8), (0.8, -0.8), (-1, 0), (1, 0), (0.8, 0.8), (-0.8, -0.8))
]


@dataclass(frozen=True)
class ParetoPoint:
    """Labelled point; `is_optimal` if no other point is better in cost and score."""

    label: str
    cost: float
    score: float
    is_optimal: bool


@figure_function
def draw_pareto(panels: Mapping[str, Sequence[ParetoPoint]], *, score: str, title: str) -> Figure:
    """Draw one panel per kind of cost; filled markers joined by a line are the Pareto front, hollow ones dominated.

    Args:
        panels: Name and unit of a cost to the points; at least one panel with one point.
        score: Name and unit of the scores.
        title: Title of the figure.
    """
    width = _PANEL_WIDTH * len(panels)
    figure = new_figure(width, _HEIGHT)
    figure.set_layout_engine("constrained", wspace=0.05)
    grid = figure.subplots(1, len(panels), squeeze=False)
    for axes, (cost, points) in zip(grid[0], panels.items(), strict=True):
        _draw_points(axes, points)
        axes.set_xlabel(cost)
        axes.set_ylabel(score)
        axes.margins(0.12)
        plain_numbers(axes.xaxis)
        axes.grid()
    add_title(figure, title)
    entries = {line.get_label(): line for axes in grid[0] for line in axes.get_lines()}
    figure.legend(entries.values(), entries.keys(), loc="outside lower left", ncols=2, labelcolor=TEXT_COLOR)
    figure.draw_without_rendering()  # labels are placed in the final layout
    figure.set_layout_engine("none")
    for axes, points in zip(grid[0], panels.values(), strict=True):
        _add_labels(axes, points)
    return figure


def _draw_points(axes: Axes, points: Sequence[ParetoPoint]) -> None:
    front = sorted((point.cost, point.score) for point in points if point.is_optimal)
    dominated = [(point.cost, point.score) for point in points if not point.is_optimal]
    settings: dict[str, Any] = {"color": COLORS[0], "marker": "o", "markersize": _MARKER_SIZE}
    axes.plot(*zip(*front, strict=True), linewidth=1, label="Pareto-optimal", **settings)
    if dominated:
        axes.plot(*zip(*dominated, strict=True), linestyle="", markerfacecolor="white", label="dominated", **settings)


def _add_labels(axes: Axes, points: Sequence[ParetoPoint]) -> None:
    """Add the label of each point where it covers no other label, marker or line, if there is such a place."""
    line = axes.get_lines()[0]
    front = line.get_transform().transform_path(line.get_path())
    taken = [_marker_box(axes, point) for point in points]
    for point in points:
        text = axes.annotate(
            printable(point.label),
            (point.cost, point.score),
            xytext=_OFFSETS[0],
            textcoords="offset points",
            ha="center",
            va="center",
            fontsize=CAPTION_SIZE,
        )
        for offset in _OFFSETS:
            text.set_position(offset)
            box = text.get_window_extent()
            is_free = box.count_overlaps(taken) == 0 and not front.intersects_bbox(box, filled=False)
            if is_free and _contains(axes.bbox, box):
                break
        else:
            text.set_position(_OFFSETS[0])
        taken.append(text.get_window_extent())


def _marker_box(axes: Axes, point: ParetoPoint) -> Bbox:
    x, y = axes.transData.transform((point.cost, point.score))
    half = _MARKER_SIZE / 2 * axes.figure.dpi / 72
    return Bbox.from_extents(x - half, y - half, x + half, y + half)


def _contains(outer: Bbox, inner: Bbox) -> bool:
    return outer.x0 <= inner.x0 and inner.x1 <= outer.x1 and outer.y0 <= inner.y0 and inner.y1 <= outer.y1
