"""Experiments below one another: for each the scores of its runs, its cost and its time.

All lengths are in points, that is pixels of the finished picture.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from dl_lib.benchmark.zoo import ZooEntry
from dl_lib.evaluation.report.canvas import FAINT, WHITE, Canvas, Picture, text_width
from dl_lib.plots.axis import Axis, short_number
from dl_lib.plots.runs import COLORS

__all__ = ["draw_zoo"]

_MARGIN, _GAP, _ROW, _HEAD, _FOOT = 18, 34, 26, 34, 24
_PLOT_WIDTH = 190
_NAME_SIZE, _TITLE_SIZE, _NUMBER_SIZE = 12.0, 12.0, 10.0
_BAR_HEIGHT, _DISC_RADIUS, _GRID_WIDTH = 12, 3.6, 0.7
_BAR = (176, 209, 238)
_ROOM_FOR_NUMBER = 1.22  # of the axis, as a multiple of the highest value


@dataclass(frozen=True)
class _Column:
    """Attributes: its title; for each experiment values, or none, of which the mean is written."""

    title: str
    values: Sequence[Sequence[float]]

    @property
    def axis(self) -> Axis:
        return Axis(0.0, _ROOM_FOR_NUMBER * max(value for values in self.values for value in values))


def draw_zoo(entries: Sequence[ZooEntry], *, size: tuple[int, int]) -> Picture:
    """Draws a line for each experiment; what none of them has is left out.

    Args:
        entries: one at least.
        size: (height, width) in pixels of the image that cost and time are of.

    Returns:
        uint8 (height, width, 3), RGB.
    """
    columns = [
        _Column("mIoU of the runs (%)", [[100 * score for score in entry.scores] for entry in entries]),
        _Column(f"GFLOPs at {size[0]}x{size[1]}", [[entry.gflops] for entry in entries]),
        _Column("s on the CPU", [[] if entry.seconds is None else [entry.seconds] for entry in entries]),
    ]
    columns = [column for column in columns if any(column.values)]
    names_end = _MARGIN + max(text_width(entry.name, size=_NAME_SIZE) for entry in entries)
    width = round(names_end + len(columns) * (_PLOT_WIDTH + _GAP) + _MARGIN)
    canvas = Canvas.blank(2 * _MARGIN + _HEAD + len(entries) * _ROW + _FOOT, width)
    for number, entry in enumerate(entries):
        canvas.text(entry.name, at=(names_end, _row_center(number)), align="right", size=_NAME_SIZE)
    for number, column in enumerate(columns):
        _draw_column(canvas, column, left=names_end + _GAP / 2 + number * (_PLOT_WIDTH + _GAP))
    return canvas.finished()


def _row_center(number: int) -> float:
    return _MARGIN + _HEAD + (number + 0.5) * _ROW


def _draw_column(canvas: Canvas, column: _Column, *, left: float) -> None:
    axis = column.axis
    top, bottom = _MARGIN + _HEAD, _MARGIN + _HEAD + len(column.values) * _ROW
    canvas.text(column.title, at=(left, _MARGIN + _HEAD / 2 - 4), align="left", size=_TITLE_SIZE)
    for tick in axis.ticks():
        x = left + axis.place(tick) * _PLOT_WIDTH
        canvas.line((x, top), (x, bottom), width=_GRID_WIDTH, color=FAINT)
        canvas.text(short_number(tick), at=(x, bottom + 12), align="center", size=_NUMBER_SIZE)
    for number, values in enumerate(column.values):
        if not values:
            continue
        y, mean = _row_center(number), statistics.mean(values)
        places = [left + axis.place(value) * _PLOT_WIDTH for value in values]
        end = left + axis.place(mean) * _PLOT_WIDTH
        canvas.bar((left, y - _BAR_HEIGHT / 2), size=(end - left, _BAR_HEIGHT), fill=_BAR)
        if len(values) > 1:
            for x in places:
                canvas.disc((x, y), radius=_DISC_RADIUS, fill=COLORS[0], border=WHITE)
        beside = (max(places) + _DISC_RADIUS + 7, y)
        canvas.text(short_number(float(f"{mean:.3g}")), at=beside, align="left", size=_NUMBER_SIZE)
