"""Row-normalized confusion matrix of a segmentation result."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from dl_lib.visualization.figure import (
    CAPTION_SIZE,
    FAINT_COLOR,
    LABEL_SIZE,
    RAMP,
    TEXT_COLOR,
    TITLE_SIZE,
    add_axes,
    add_text,
    figure_function,
    fit_text,
    new_figure,
    printable,
    shorten,
    text_height,
    text_width,
)

__all__ = ["draw_confusion_matrix"]

_MARGIN, _GAP = 0.12, 0.06
_AXIS_LABEL = 0.25  # height of "ground truth" and "prediction"
_LARGEST_CELL, _SMALLEST_NUMBERED_CELL, _SMALLEST_NAMED_CELL = 0.5, 0.26, 0.105
_MOST_NUMBERED_CLASSES, _MOST_NAMED_CLASSES = 45, 160
_GRID_SIDE = 6.8  # the figure then has about the width of a README
_BAR_WIDTH, _BAR_SPACE = 0.14, 0.85
_LONGEST_NAME = 36  # characters
_LEAST_WIDTH = 4.0
_SMALLEST_RATIO = 0.005  # rounds to 0 %: neither colored nor numbered


@figure_function
def draw_confusion_matrix(counts: npt.ArrayLike, *, class_names: Sequence[str], title: str = "") -> Figure:
    """Draw a confusion matrix; rows are ground truth and are normalized to 100 %.

    Cells carry their percentage for up to 45 classes, rows and columns their class name for up to 160; beyond that,
    class indices label the axes at intervals. Ratios below 0.5 % are white; rows of classes that are absent from the
    ground truth are gray. A name without glyphs in the installed fonts is escaped, after the class index.

    Args:
        counts: Pixel counts of shape (classes, classes), [true class, predicted class].
        class_names: One name per class.
        title: Title of the figure.
    """
    matrix = np.asarray(counts, dtype=np.float64)
    totals = matrix.sum(axis=1, keepdims=True)
    absent = totals[:, 0] == 0
    ratios = np.ma.masked_array(matrix / np.maximum(totals, 1), mask=np.repeat(totals == 0, len(matrix), axis=1))
    cell = _cell_side(len(matrix))
    has_names = len(matrix) <= _MOST_NAMED_CLASSES
    label_size = min(LABEL_SIZE, 0.75 * 72 * cell) if has_names else CAPTION_SIZE
    labels = [_label(index, name) for index, name in enumerate(class_names)] if has_names else [str(len(matrix))]
    border = _MARGIN + _AXIS_LABEL + max(text_width(label, size=label_size) for label in labels) + _GAP
    side = cell * len(matrix)

    width = max(border + side + _BAR_SPACE, _LEAST_WIDTH)
    header = fit_text(title, width=width - 2 * _MARGIN, size=TITLE_SIZE)
    caption = fit_text(_caption(absent.any()), width=width - 2 * _MARGIN, size=CAPTION_SIZE)
    header_height = text_height(header, size=TITLE_SIZE)
    top = header_height + border
    bottom = top + side
    figure = new_figure(width, bottom + text_height(caption, size=CAPTION_SIZE) + 2 * _MARGIN)
    axes = add_axes(figure, left=border, top=top, width=side, height=side)
    ramp = RAMP.with_extremes(under="white", bad="#d9d9d9")
    image = axes.imshow(ratios, cmap=ramp, vmin=_SMALLEST_RATIO, vmax=1, interpolation="nearest", aspect="auto")
    _style_axes(axes)
    if has_names:
        _draw_names(axes, labels=labels, absent=absent, size=label_size)
    if len(matrix) <= _MOST_NUMBERED_CLASSES:
        _draw_numbers(axes, image, ratios=ratios, size=min(LABEL_SIZE, 0.36 * 72 * cell))
    add_text(figure, header, left=_MARGIN, top=_MARGIN, size=TITLE_SIZE)
    add_text(figure, "prediction", left=border + side / 2, top=header_height + _MARGIN, ha="center")
    add_text(figure, "ground truth", left=_MARGIN, top=top + side / 2, rotation=90, va="center")
    add_text(figure, caption, left=_MARGIN, top=bottom + _MARGIN, size=CAPTION_SIZE)
    bar = add_axes(figure, left=border + side + 0.2, top=top, width=_BAR_WIDTH, height=min(side, 2.4))
    figure.colorbar(image, cax=bar).outline.set_edgecolor(FAINT_COLOR)
    bar.set_yticks([_SMALLEST_RATIO, 0.5, 1], labels=["0 %", "50 %", "100 %"])
    return figure


def _cell_side(classes: int) -> float:
    """Return the side of a cell in inches: sized for a README, unless numbers or names need more."""
    side = min(max(_LARGEST_CELL, 1 / classes), _GRID_SIDE / classes)
    if classes <= _MOST_NUMBERED_CLASSES:
        return max(side, _SMALLEST_NUMBERED_CELL)
    return max(side, _SMALLEST_NAMED_CELL * min(1, _MOST_NAMED_CLASSES / classes))


def _label(index: int, name: str) -> str:
    return shorten(name if printable(name) == name else f"{index} {name}", _LONGEST_NAME)


def _caption(has_absent: bool) -> str:
    text = "Percentage of the pixels of each true class (rows sum to 100 %); white: below 0.5 %"
    return f"{text}; gray: class absent from the ground truth" if has_absent else text


def _style_axes(axes: Axes) -> None:
    axes.tick_params(length=0, pad=72 * _GAP / 2, labeltop=True, labelbottom=False)
    axes.spines[:].set_visible(True)
    axes.locator_params(integer=True)


def _draw_names(axes: Axes, *, labels: Sequence[str], absent: npt.NDArray[np.bool_], size: float) -> None:
    positions = range(len(labels))
    axes.set_xticks(positions, labels=labels, rotation=90, fontsize=size)
    axes.set_yticks(positions, labels=labels, fontsize=size)
    for index in np.flatnonzero(absent):
        axes.get_yticklabels()[index].set_color(FAINT_COLOR)


def _draw_numbers(axes: Axes, image: AxesImage, *, ratios: np.ma.MaskedArray, size: float) -> None:
    colors = image.to_rgba(ratios)
    luminance = colors[..., :3] @ (0.299, 0.587, 0.114)
    for row, column in np.argwhere(ratios.filled(0) >= _SMALLEST_RATIO).tolist():
        axes.text(
            column,
            row,
            f"{100 * ratios[row, column]:.0f}",
            ha="center",
            va="center_baseline",
            fontsize=size,
            color="white" if luminance[row, column] < 0.5 else TEXT_COLOR,
        )
