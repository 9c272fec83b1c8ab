"""Comparison of experiments: scores, cost and time as bars."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dl_lib.visualization.figure import (
    CAPTION_SIZE,
    COLORS,
    figure_function,
    new_figure,
    plain_numbers,
    shorten,
    text_width,
)

__all__ = ["draw_zoo"]

_LONGEST_NAME = 40
_ROW_HEIGHT, _COLUMN_WIDTH = 0.27, 2.5
_HEADROOM = 1.3  # end of a value axis as a multiple of the largest value: leaves room for the number behind the bar


@figure_function
def draw_zoo(names: Sequence[str], *, columns: Mapping[str, Sequence[Sequence[float]]]) -> Figure:
    """Draw one row per experiment and one column of bars per quantity.

    A bar ends at the mean of the values, which is printed next to it; several values are also shown as dots.

    Args:
        names: Experiments, top to bottom; at least one.
        columns: Quantity (with its unit) to the values of each experiment, such as the scores of its runs. An
            experiment may have no values; a column without any is omitted.
    """
    shown = {title: values for title, values in columns.items() if any(values)}
    labels = [shorten(name, _LONGEST_NAME) for name in names]
    names_width = max(text_width(label, size=CAPTION_SIZE) for label in labels)
    figure = new_figure(names_width + _COLUMN_WIDTH * len(shown) + 0.3, _ROW_HEIGHT * len(names) + 0.75)
    figure.set_layout_engine("constrained", wspace=0.05)
    grid = figure.subplots(1, len(shown), sharey=True, squeeze=False)
    for axes, (title, values) in zip(grid[0], shown.items(), strict=True):
        _draw_column(axes, title=title, values=values)
    grid[0, 0].set_yticks(range(len(names)), labels=labels)
    grid[0, 0].set_ylim(len(names) - 0.4, -0.6)
    return figure


def _draw_column(axes: Axes, *, title: str, values: Sequence[Sequence[float]]) -> None:
    rows = [(row, statistics.mean(numbers), numbers) for row, numbers in enumerate(values) if numbers]
    axes.barh([row for row, *_ in rows], [mean for _, mean, _ in rows], height=0.5, color=COLORS[4], alpha=0.6)
    for row, mean, numbers in rows:
        if len(numbers) > 1:
            axes.plot(numbers, [row] * len(numbers), "o", color=COLORS[0], markersize=5, markeredgecolor="white")
        axes.annotate(
            f"{float(f'{mean:.3g}'):g}",
            (max(numbers), row),
            xytext=(5, 0),
            textcoords="offset points",
            verticalalignment="center_baseline",
            fontsize=CAPTION_SIZE,
        )
    axes.set_title(title)
    axes.set_xlim(0, (_HEADROOM * max(max(numbers) for _, _, numbers in rows)) or 1)
    axes.grid(axis="x")
    axes.tick_params(axis="y", length=0)
    axes.spines["bottom"].set_visible(False)
    plain_numbers(axes.xaxis)
