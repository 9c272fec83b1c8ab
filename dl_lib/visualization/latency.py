"""Predicted against measured latency of routes."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from dl_lib.visualization.figure import (
    COLORS,
    FAINT_COLOR,
    TEXT_COLOR,
    add_title,
    figure_function,
    new_figure,
)

__all__ = ["draw_latency"]

_WIDTH, _HEIGHT = 5.4, 5.0
_MARGIN_FACTOR = 1.08  # of the axes, above the largest latency
_BAND = 0.1  # relative deviation that is shaded


@figure_function
def draw_latency(predicted_ms: Sequence[float], measured_ms: Sequence[float], *, title: str = "") -> Figure:
    """Draw one point per route, the line of equality and a band of 10 % around it.

    Args:
        predicted_ms: Predicted latency of each route in milliseconds.
        measured_ms: Measured latency of each route in milliseconds.
        title: Title of the figure.
    """
    figure = new_figure(_WIDTH, _HEIGHT)
    figure.set_layout_engine("constrained")
    axes = figure.subplots()
    limit = _MARGIN_FACTOR * max(*predicted_ms, *measured_ms)
    ends = (0.0, limit)
    low, high = ([(1 + sign * _BAND) * end for end in ends] for sign in (-1, 1))
    axes.fill_between(ends, low, high, color=FAINT_COLOR, alpha=0.25, linewidth=0, label=f"±{_BAND:.0%}")
    axes.plot(ends, ends, color=FAINT_COLOR, linewidth=1, label="equal")
    axes.plot(measured_ms, predicted_ms, "o", color=COLORS[0], markersize=5, label="one route")
    axes.set_xlim(ends)
    axes.set_ylim(ends)
    axes.set_aspect("equal")
    axes.set_xlabel("measured latency (ms)")
    axes.set_ylabel("predicted latency (ms)")
    axes.grid()
    add_title(figure, title)
    figure.legend(loc="outside lower left", ncols=3, labelcolor=TEXT_COLOR)
    return figure
