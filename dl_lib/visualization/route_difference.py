"""Difference of the gate values of two networks with the same lattice."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.collections import LineCollection
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from dl_lib.modeling.dynamic.lattice import Lattice
from dl_lib.visualization.figure import figure_function, shorten
from dl_lib.visualization.routing import (
    CLOSED_STYLE,
    add_lattice_bar,
    add_lattice_legend,
    draw_lattice,
    lattice_figure,
)

__all__ = ["draw_route_difference"]

_DIVERGING = ListedColormap(  # distinct for any color vision; without the middle, which is too light on white
    matplotlib.colormaps["PuOr_r"](np.concatenate([np.linspace(0, 0.35, 128), np.linspace(0.65, 1, 128)])),
    name="change",
)
_MAX_NAME = 45  # characters of a name in the legend
_THINNEST, _THICKEST = 1.0, 7.0  # points


@figure_function
def draw_route_difference(
    lattice: Lattice, *, first: Sequence[float], second: Sequence[float], names: tuple[str, str], title: str = ""
) -> Figure:
    """Draw how much wider the second network opens each edge than the first: orange, or violet where it is narrower.

    Lines get wider and stronger in color with the difference; edges without one are dotted. The color bar ends at the
    largest difference.

    Args:
        lattice: Routing space of both.
        first: Gate values in [0, 1] in the order of `lattice.edges`, such as means over a dataset.
        second: Those of the other network.
        names: Names of both networks.
        title: Title of the figure.
    """
    figure, layout = lattice_figure(lattice, title=title)
    closed = [0.0] * len(lattice.edges)
    axes = draw_lattice(figure, lattice, **layout, gates=closed, is_dependent=[False] * len(closed), dependent_style={})
    changes = [after - before for before, after in zip(first, second, strict=True)]
    largest = max(map(abs, changes)) or 1.0
    changed = sorted(
        ((change, edge) for change, edge in zip(changes, lattice.edges, strict=True) if change),
        key=lambda item: abs(item[0]),
    )
    lines = LineCollection(
        [[(node.layer, node.scale) for node in (edge.source, edge.target)] for _, edge in changed],
        cmap=_DIVERGING,
        linewidths=[_THINNEST + (_THICKEST - _THINNEST) * abs(change) / largest for change, _ in changed],
        capstyle="round",
        zorder=2,
    )
    lines.set_array([change for change, _ in changed])
    lines.set_clim(-largest, largest)
    axes.add_collection(lines, autolim=False)
    ticks = {value: f"{value:+.2g}" if value else "0" for value in (-largest, 0.0, largest)}
    add_lattice_bar(figure, axes, lines, ticks=ticks, title="gate")
    handles = {
        f"wider open in {shorten(names[1], _MAX_NAME)}": Line2D([], [], linewidth=3, color=_DIVERGING(0.85)),
        f"wider open in {shorten(names[0], _MAX_NAME)}": Line2D([], [], linewidth=3, color=_DIVERGING(0.15)),
        "equal": Line2D([], [], **CLOSED_STYLE),
    }
    add_lattice_legend(figure, handles, columns=2)
    return figure
