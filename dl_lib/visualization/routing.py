"""Gate values of a routing lattice, in the style of the paper's figures (arXiv 2003.10401, figures 1 and 4).

Layers run to the right, scales downwards.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from dl_lib.modeling.dynamic.lattice import Lattice, Node
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
    text_height,
)

__all__ = ["draw_routing"]

_MARGIN, _LEFT, _RIGHT, _BOTTOM = 0.12, 0.85, 0.95, 0.85  # around the lattice: ticks, color bar, axis label, legend
_LATTICE_WIDTH = 7.0  # the figure then has the width of a README
_NARROWEST_STEP, _WIDEST_STEP, _SCALE_STEP = 0.22, 0.85, 0.58  # between layers, between layers, between scales
_LEGEND_WIDTH = 5.6


@figure_function
def draw_routing(lattice: Lattice, *, gates: Sequence[float], title: str = "") -> Figure:
    """Draw the gate value of every edge of a lattice.

    Edges get darker and thicker with their gate value; closed edges are not drawn. A cell has the color of its
    largest outgoing gate and is white if all are closed. Squares are the outputs of the lattice.

    Args:
        lattice: Routing space.
        gates: Gate values in [0, 1], of one image or the mean of several, in the order of `lattice.edges`.
        title: Title of the figure.

    Raises:
        ValueError: If there is not exactly one value in [0, 1] per edge.
    """
    _check_gates(gates, lattice=lattice)
    columns, scales = lattice.num_layers + 2, max(2, *lattice.cells_per_layer)
    step = min(_WIDEST_STEP, max(_NARROWEST_STEP, _LATTICE_WIDTH / columns))
    width = max(_LEFT + columns * step + _RIGHT, _LEGEND_WIDTH + 2 * _MARGIN)
    header = fit_text(title, width=width - 2 * _MARGIN, size=TITLE_SIZE)
    top = _MARGIN + text_height(header, size=TITLE_SIZE)
    height = scales * _SCALE_STEP
    figure = new_figure(width, top + height + _BOTTOM)
    axes = add_axes(figure, left=_LEFT, top=top, width=columns * step, height=height)
    axes.set_xlim(-0.5, columns - 0.5)
    axes.set_ylim(scales - 0.5, -0.5)
    radius = 72 * min(0.15, 0.36 * step)  # points
    _draw_edges(axes, lattice, gates=gates, thickest=0.45 * radius)
    _draw_nodes(axes, lattice, gates=gates, radius=radius)
    _draw_ticks(axes, lattice)
    bar = add_axes(figure, left=_LEFT + columns * step + 0.2, top=top + 0.3, width=0.13, height=height - 0.4)
    mapping = ScalarMappable(cmap=RAMP)
    mapping.set_clim(0, 1)
    figure.colorbar(mapping, cax=bar, ticks=[0, 0.5, 1]).outline.set_edgecolor(FAINT_COLOR)
    bar.set_yticks([0, 0.5, 1], labels=["0", "0.5", "1"])
    bar.set_title("gate", fontsize=LABEL_SIZE)
    _draw_legend(figure)
    add_text(figure, header, left=_MARGIN, top=_MARGIN, size=TITLE_SIZE)
    return figure


def _check_gates(gates: Sequence[float], *, lattice: Lattice) -> None:
    if len(gates) != len(lattice.edges):
        raise ValueError(
            f"gates must have one value per edge of the lattice ({len(lattice.edges)}). "
            f"Received: len(gates)={len(gates)}"
        )
    invalid = {str(edge): gate for edge, gate in zip(lattice.edges, gates, strict=True) if not 0 <= gate <= 1}
    if invalid:
        raise ValueError(f"gates must be in [0, 1]. Received: gates={invalid}")


def _draw_edges(axes: Axes, lattice: Lattice, *, gates: Sequence[float], thickest: float) -> None:
    edges = [(gate, edge) for gate, edge in zip(gates, lattice.edges, strict=True) if gate > 0]
    edges.sort(key=lambda pair: pair[0])  # strong gates are drawn over weak ones
    lines = [[(node.layer, node.scale) for node in (edge.source, edge.target)] for _, edge in edges]
    widths = [thickest * (0.2 + 0.8 * gate) for gate, _ in edges]
    collection = LineCollection(lines, linewidths=widths, cmap=RAMP, capstyle="round", zorder=1)
    collection.set_array([gate for gate, _ in edges])
    collection.set_clim(0, 1)
    axes.add_collection(collection, autolim=False)


def _draw_nodes(axes: Axes, lattice: Lattice, *, gates: Sequence[float], radius: float) -> None:
    strongest: dict[Node, float] = dict.fromkeys((*lattice.nodes, *lattice.outputs), 0.0)
    for edge, gate in zip(lattice.edges, gates, strict=True):
        strongest[edge.source] = max(strongest[edge.source], gate)
        if edge.target in lattice.outputs:
            strongest[edge.target] = gate
    for nodes, marker, size in ((lattice.nodes, "o", 2.0), (lattice.outputs, "s", 1.7)):
        axes.scatter(
            [node.layer for node in nodes],
            [node.scale for node in nodes],
            s=(size * radius) ** 2,
            marker=marker,
            c=[RAMP(strongest[node]) if strongest[node] > 0 else (1, 1, 1, 1) for node in nodes],
            edgecolors=[TEXT_COLOR if strongest[node] > 0 else FAINT_COLOR for node in nodes],
            linewidths=0.8,
            zorder=2,
        )


def _draw_ticks(axes: Axes, lattice: Lattice) -> None:
    layers = range(lattice.num_layers + 2)
    axes.set_xticks(layers, labels=[*map(str, layers[:-1]), "out"])
    scales = range(max(lattice.cells_per_layer))
    axes.set_yticks(scales, labels=[f"stride {Node(0, scale).stride}" for scale in scales])
    axes.set_xlabel("layer")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


def _draw_legend(figure: Figure) -> None:
    dot = functools.partial(Line2D, [], [], linestyle="none", markersize=8, markeredgewidth=0.8)
    handles = {
        "edge: gate value": Line2D([], [], color=RAMP(0.7), linewidth=3),
        "cell: largest outgoing gate": dot(marker="o", markerfacecolor=RAMP(0.7), markeredgecolor=TEXT_COLOR),
        "closed cell": dot(marker="o", markerfacecolor="white", markeredgecolor=FAINT_COLOR),
        "output": dot(marker="s", markerfacecolor=RAMP(0.7), markeredgecolor=TEXT_COLOR),
    }
    figure.legend(
        list(handles.values()),
        list(handles),
        loc="lower left",
        bbox_to_anchor=(_MARGIN / figure.get_figwidth(), _MARGIN / figure.get_figheight()),
        borderpad=0,
        borderaxespad=0,
        ncols=4,
        fontsize=CAPTION_SIZE,
    )
