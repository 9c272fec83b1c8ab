"""Score against cost of networks on several datasets: means and standard deviations over runs."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from dl_lib.visualization.figure import (
    CAPTION_SIZE,
    figure_function,
    new_figure,
    plain_numbers,
    printable,
    text_width,
)

__all__ = ["Series", "draw_tradeoff"]

# Petroff, "Accessible color sequences for data visualization" (arXiv 2107.02270): also with color vision deficiency.
_COLORS = matplotlib.color_sequences["petroff10"]
_MARKERS = ("o", "s", "^", "D", "v", "P")
_PANEL_WIDTH, _HEIGHT = 4.0, 3.6
_LEGEND_MARGIN = 0.6  # markers and space next to the names


@dataclass(frozen=True)
class Series:
    """Points of one series.

    Attributes:
        name: Entry of the legend.
        costs: Costs of the runs of each point, positive.
        scores: Scores of the same runs.
    """

    name: str
    costs: Sequence[Sequence[float]]
    scores: Sequence[Sequence[float]]


@figure_function
def draw_tradeoff(panels: Mapping[str, Sequence[Series]], *, cost: str, score: str) -> Figure:
    """Draw one panel per dataset, with a logarithmic cost axis.

    A point is the mean of its runs, with bars of one standard deviation in both directions if there are several; the
    points of a series are connected in the order of their cost.

    Args:
        panels: Title of a panel to its series; at least one panel.
        cost: Name and unit of the costs.
        score: Name and unit of the scores.
    """
    names = dict.fromkeys(series.name for panel in panels.values() for series in panel)
    styles = dict(zip(names, zip(cycle(_COLORS), cycle(_MARKERS), strict=False), strict=False))
    legend_width = _LEGEND_MARGIN + max(text_width(printable(name), size=CAPTION_SIZE) for name in styles)
    figure = new_figure(_PANEL_WIDTH * len(panels) + legend_width, _HEIGHT)
    figure.set_layout_engine("constrained", wspace=0.05)
    grid = figure.subplots(1, len(panels), squeeze=False)
    handles: dict[str, Any] = {}
    for axes, (title, panel) in zip(grid[0], panels.items(), strict=True):
        for series in panel:
            handles.setdefault(series.name, _draw_series(axes, series, style=styles[series.name]))
        axes.set_title(printable(title))
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        plain_numbers(axes.xaxis)
        axes.set_xlabel(cost)
        axes.set_ylabel(score)
        axes.grid()
    figure.legend(list(handles.values()), [printable(name) for name in handles], loc="outside right center")
    return figure


def _draw_series(axes: Axes, series: Series, *, style: tuple[Any, str]) -> ErrorbarContainer:
    points = sorted(zip(series.costs, series.scores, strict=True), key=lambda point: statistics.mean(point[0]))
    color, marker = style
    return axes.errorbar(
        [statistics.mean(costs) for costs, _ in points],
        [statistics.mean(scores) for _, scores in points],
        xerr=[_deviation(costs) for costs, _ in points],
        yerr=[_deviation(scores) for _, scores in points],
        color=color,
        marker=marker,
        markersize=6,
        markeredgecolor="white",
        linewidth=1,
        elinewidth=1,
    )


def _deviation(values: Sequence[float]) -> float:
    return statistics.stdev(values) if len(values) > 1 else 0.0
