"""A picture of a confusion matrix: which share of each class was taken for which.

All lengths are in points, that is pixels of the finished picture.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from torch import Tensor

from dl_lib.evaluation.report.canvas import INK, WHITE, Canvas, Picture, ramp_colors, text_width

__all__ = ["draw_confusion"]

_MARGIN, _GAP = 24, 8
_TITLE_SIZE, _CAPTION_SIZE = 17, 11
_TITLE_HEIGHT, _CAPTION_HEIGHT = 48, 48
_LARGEST_CELL, _SMALLEST_LABELLED_CELL = 36, 10
_GRID_SIDE = 1500  # about, for many classes
_NUMBERED_CELL = 30  # from this side on a cell has room for a number
_LONGEST_NAME = 28  # letters
_LEGEND_WIDTH, _LEGEND_SPACE = 14, 110
_ABSENT_COLOR = (224, 224, 224)
_VISIBLE, _DARK = 0.005, 0.5  # shares from where on there is ink, and from where on it is dark
_CAPTION = "rows: ground truth; columns: prediction; colour: % of the row, white below 0.5; grey: no ground truth"


@dataclass(frozen=True)
class _Layout:
    """Where things are.

    Attributes:
        cell: side of a cell.
        grid: side of all of them.
        left: where the grid begins.
        top: likewise.
        label_size: of the letters of the names; 0 where there are none.
    """

    cell: int
    grid: int
    left: int
    top: int
    label_size: float

    def center(self, index: int) -> float:
        """Of a row or column, from where the grid begins."""
        return (index + 0.5) * self.cell


def draw_confusion(counts: Tensor, *, class_names: Sequence[str], title: str = "") -> Picture:
    """Draws a matrix with rows of the ground truth, each as shares of its pixels.

    Up to about 40 classes, cells have their percentages written on them; up to about 150, rows and columns have names.

    Args:
        counts: integers (classes, classes), [true, predicted].
        class_names: one for each class.
        title: a line above the picture.

    Returns:
        uint8 (height, width, 3), RGB.
    """
    numbers = counts.cpu().double().numpy()
    true = numbers.sum(axis=1, keepdims=True)
    shares = numbers / np.maximum(true, 1)
    names = [name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 3]}..." for name in class_names]
    layout = _lay_out(names)
    width = max(layout.left + layout.grid + _LEGEND_SPACE, _MARGIN + math.ceil(text_width(title, size=_TITLE_SIZE)))
    width = max(width, _MARGIN + math.ceil(text_width(_CAPTION, size=_CAPTION_SIZE)))
    canvas = Canvas.blank(layout.top + layout.grid + _CAPTION_HEIGHT, width + _MARGIN)
    colors = ramp_colors(shares)
    colors[shares < _VISIBLE] = WHITE
    colors[true[:, 0] == 0] = _ABSENT_COLOR
    canvas.cells((layout.left, layout.top), colors=colors, side=layout.cell)
    if layout.label_size:
        _draw_names(canvas, names=names, layout=layout)
    if layout.cell >= _NUMBERED_CELL:
        _draw_numbers(canvas, shares=shares, layout=layout)
    _draw_frame(canvas, layout=layout)
    canvas.text(title, at=(_MARGIN, 28), align="left", size=_TITLE_SIZE)
    canvas.text(_CAPTION, at=(_MARGIN, layout.top + layout.grid + 26), align="left", size=_CAPTION_SIZE)
    return canvas.finished()


def _lay_out(names: Sequence[str]) -> _Layout:
    cell = max(1, min(_LARGEST_CELL, _GRID_SIDE // len(names)))
    label_size = min(13.0, 0.95 * cell) if cell >= _SMALLEST_LABELLED_CELL else 0.0
    longest = max(text_width(name, size=label_size) for name in names) if label_size else 0.0
    border = _MARGIN + math.ceil(longest) + _GAP
    return _Layout(cell, grid=cell * len(names), left=border, top=border + _TITLE_HEIGHT, label_size=label_size)


def _draw_names(canvas: Canvas, *, names: Sequence[str], layout: _Layout) -> None:
    size = layout.label_size
    for index, name in enumerate(names):
        row, column = layout.top + layout.center(index), layout.left + layout.center(index)
        canvas.text(name, at=(layout.left - _GAP, row), align="right", size=size)
        canvas.upright_text(name, at=(column, layout.top - _GAP), size=size)


def _draw_numbers(canvas: Canvas, *, shares: npt.NDArray[np.float64], layout: _Layout) -> None:
    """Whole percentages; what rounds to 0 has none."""
    for row, column in np.argwhere(shares >= _VISIBLE).tolist():
        share = shares[row, column]
        canvas.text(
            f"{100 * share:.0f}",
            at=(layout.left + layout.center(column), layout.top + layout.center(row)),
            align="center",
            color=WHITE if share >= _DARK else INK,
        )


def _draw_frame(canvas: Canvas, *, layout: _Layout) -> None:
    """The frame of the grid, and a colour bar with the values of its ends and middle."""
    right, bottom = layout.left + layout.grid, layout.top + layout.grid
    corners = [(layout.left, layout.top), (right, layout.top), (right, bottom), (layout.left, bottom)]
    for start, end in zip(corners, corners[1:] + corners[:1], strict=True):
        canvas.line(start, end, width=1, color=INK)
    left, height = right + 32, min(layout.grid, 300)
    canvas.ramp((left, layout.top), size=(_LEGEND_WIDTH, height))
    for share in (0.0, 0.5, 1.0):
        at = (left + _LEGEND_WIDTH + 7, layout.top + (1 - share) * height)
        canvas.text(f"{100 * share:.0f} %", at=at, align="left")
