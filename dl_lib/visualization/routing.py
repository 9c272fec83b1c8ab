"""Gate values of a routing lattice, in the style of the paper's figures (arXiv 2003.10401, figures 1 and 4).

Layers run to the right, scales downwards.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from dl_lib.modeling.dynamic.lattice import Edge, Lattice, Node
from dl_lib.modeling.dynamic.route import Route
from dl_lib.visualization.figure import (
    CAPTION_SIZE,
    COLORS,
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

__all__ = [
    "CLOSED_STYLE",
    "add_lattice_bar",
    "add_lattice_legend",
    "draw_lattice",
    "draw_route",
    "draw_routing",
    "lattice_figure",
]

_MARGIN = 0.12
_LEFT, _RIGHT, _BOTTOM = 0.85, 0.95, 0.85  # around the lattice: ticks, color bar, axis label and legend
_LATTICE_WIDTH = 7.0  # the figure then has the width of a README
_NARROWEST_STEP, _WIDEST_STEP, _SCALE_STEP = 0.22, 0.85, 0.58  # between layers, between layers, between scales
_LEGEND_WIDTH = 5.6
CLOSED_STYLE: dict[str, Any] = {"color": FAINT_COLOR, "linewidth": 0.7, "linestyle": ":"}
_PASS_STYLE: dict[str, Any] = {"color": TEXT_COLOR, "linewidth": 1.2}
_DEPENDENT: dict[str, Any] = {"color": COLORS[1], "linestyle": (0, (1.3, 0.8))}  # short dashes, for short edges


def draw_route(route: Route, *, title: str = "") -> Figure:
    """Draw a fixed route as in `draw_routing`; its gate values are 0 for closed edges."""
    assert route.is_fixed
    gates = [route.gates.get(edge) or 0.0 for edge in route.lattice.edges]
    return draw_routing(route.lattice, gates=gates, passes=route.passes, title=title)


@figure_function
def draw_routing(
    lattice: Lattice,
    *,
    gates: Sequence[float],
    open_ratios: Sequence[float] | None = None,
    passes: Collection[Node] = (),
    title: str = "",
) -> Figure:
    """Draw the gate value of every edge of a lattice.

    Open edges get darker and thicker with their gate value; closed edges are dotted. With `open_ratios`, edges that
    depend on the image, i.e. that some but not all images open, are dashed and of another color. A cell has the color
    of its largest outgoing gate and is white if all are closed. Squares are the outputs of the lattice.

    Args:
        lattice: Routing space.
        gates: Gate values in [0, 1], of one image or the mean of several, in the order of `lattice.edges`.
        open_ratios: Ratio of the images that open each edge, in [0, 1].
        passes: Closed cells that are drawn as passing their input on along keep.
        title: Title of the figure.

    Raises:
        ValueError: If there is not exactly one value in [0, 1] per edge.
    """
    _check_ratios(gates, name="gates", lattice=lattice)
    if open_ratios is not None:
        _check_ratios(open_ratios, name="open_ratios", lattice=lattice)
    figure, layout = lattice_figure(lattice, title=title)
    is_dependent = [False] * len(gates) if open_ratios is None else [0 < ratio < 1 for ratio in open_ratios]
    axes = draw_lattice(
        figure,
        lattice,
        **layout,
        gates=gates,
        is_dependent=is_dependent,
        dependent_style=_DEPENDENT,
    )
    if passes:
        lines = [[(node.layer, node.scale), (node.layer + 1, node.scale)] for node in passes]
        axes.add_collection(LineCollection(lines, **_PASS_STYLE, zorder=2), autolim=False)
    mapping = ScalarMappable(cmap=RAMP)
    mapping.set_clim(0, 1)
    add_lattice_bar(figure, axes, mapping, ticks={0: "0", 0.5: "0.5", 1: "1"}, title="gate")
    _draw_legend(figure, several_images=open_ratios is not None, has_passes=bool(passes))
    return figure


def lattice_figure(lattice: Lattice, *, title: str) -> tuple[Figure, dict[str, Any]]:
    """Return a figure with a title and room for a lattice, its color bar and a legend.

    The second value has the arguments `left`, `top` and `steps` of `draw_lattice`.
    """
    columns, scales = lattice.num_layers + 2, max(2, *lattice.cells_per_layer)
    step = min(_WIDEST_STEP, max(_NARROWEST_STEP, _LATTICE_WIDTH / columns))
    width = max(_LEFT + columns * step + _RIGHT, _LEGEND_WIDTH + 2 * _MARGIN)
    header = fit_text(title, width=width - 2 * _MARGIN, size=TITLE_SIZE)
    top = _MARGIN + text_height(header, size=TITLE_SIZE)
    figure = new_figure(width, top + scales * _SCALE_STEP + _BOTTOM)
    add_text(figure, header, left=_MARGIN, top=_MARGIN, size=TITLE_SIZE)
    return figure, {"left": _LEFT, "top": top, "steps": (step, _SCALE_STEP)}


def add_lattice_bar(
    figure: Figure, axes: Axes, mapping: ScalarMappable, *, ticks: Mapping[float, str], title: str
) -> None:
    """Add the color bar of a lattice to the right of its axes, with labels by value."""
    width, height = figure.get_size_inches()
    box = axes.get_position()
    bar = add_axes(
        figure,
        left=box.x1 * width + 0.2,
        top=(1 - box.y1) * height + 0.3,
        width=0.13,
        height=box.height * height - 0.4,
    )
    figure.colorbar(mapping, cax=bar, ticks=list(ticks)).outline.set_edgecolor(FAINT_COLOR)
    bar.set_yticks(list(ticks), labels=list(ticks.values()))
    bar.set_title(title, fontsize=LABEL_SIZE)


def add_lattice_legend(figure: Figure, handles: Mapping[str, Line2D], *, columns: int) -> None:
    """Add a legend below the lattice, with the handles by their text."""
    figure.legend(
        list(handles.values()),
        list(handles),
        loc="lower left",
        bbox_to_anchor=(_MARGIN / figure.get_figwidth(), _MARGIN / figure.get_figheight()),
        borderpad=0,
        borderaxespad=0,
        ncols=columns,
        fontsize=CAPTION_SIZE,
    )


def draw_lattice(
    figure: Figure,
    lattice: Lattice,
    *,
    left: float,
    top: float,
    steps: tuple[float, float],
    gates: Sequence[float],
    is_dependent: Sequence[bool],
    dependent_style: Mapping[str, Any],
) -> Axes:
    """Draw the edges, cells and outputs of a lattice, see `draw_routing`.

    Args:
        figure: Figure to draw on.
        lattice: Routing space.
        left: Left end of the axes in inches.
        top: Upper end of the axes in inches from the upper end of the figure.
        steps: Distance of layers and distance of scales in inches.
        gates: Gate values in [0, 1], in the order of `lattice.edges`.
        is_dependent: Whether an edge depends on the image.
        dependent_style: Style of these edges, instead of the color of their gate value.
    """
    step, scale_step = steps
    columns, scales = lattice.num_layers + 2, max(2, *lattice.cells_per_layer)
    axes = add_axes(figure, left=left, top=top, width=columns * step, height=scales * scale_step)
    axes.set_xlim(-0.5, columns - 0.5)
    axes.set_ylim(scales - 0.5, -0.5)
    radius = 72 * min(0.26 * scale_step, 0.32 * step)  # points
    _draw_edges(
        axes,
        lattice,
        gates=gates,
        is_dependent=is_dependent,
        dependent_style=dependent_style,
        thickest=0.45 * radius,
    )
    _draw_nodes(axes, lattice, gates=gates, radius=radius)
    _draw_ticks(axes, lattice, period=math.ceil(_NARROWEST_STEP / step))
    return axes


def _check_ratios(values: Sequence[float], *, name: str, lattice: Lattice) -> None:
    if len(values) != len(lattice.edges):
        raise ValueError(
            f"{name} must have one value per edge of the lattice ({len(lattice.edges)}). "
            f"Received: len({name})={len(values)}"
        )
    invalid = {str(edge): value for edge, value in zip(lattice.edges, values, strict=True) if not 0 <= value <= 1}
    if invalid:
        raise ValueError(f"{name} must be in [0, 1]. Received: {name}={invalid}")


def _draw_edges(
    axes: Axes,
    lattice: Lattice,
    *,
    gates: Sequence[float],
    is_dependent: Sequence[bool],
    dependent_style: Mapping[str, Any],
    thickest: float,
) -> None:
    # Strong gates are drawn over weak ones.
    ordered = sorted(zip(gates, lattice.edges, is_dependent, strict=True), key=lambda item: item[0])
    dependent = [(gate, edge) for gate, edge, depends in ordered if depends]
    constant = [(gate, edge) for gate, edge, depends in ordered if not depends and gate > 0]
    closed = [(gate, edge) for gate, edge, depends in ordered if not depends and gate == 0]

    def add(edges: Sequence[tuple[float, Edge]], **style: Any) -> LineCollection:
        lines = [[(node.layer, node.scale) for node in (edge.source, edge.target)] for _, edge in edges]
        widths = [thickest * (0.2 + 0.8 * gate) for gate, _ in edges]
        collection = LineCollection(lines, **{"linewidth": widths, **style})
        axes.add_collection(collection, autolim=False)
        return collection

    add(closed, **CLOSED_STYLE, zorder=1)
    colored = add(constant, cmap=RAMP, capstyle="round", zorder=2)
    colored.set_array([gate for gate, _ in constant])
    colored.set_clim(0, 1)
    add(dependent, **dependent_style, zorder=3)


def _draw_nodes(axes: Axes, lattice: Lattice, *, gates: Sequence[float], radius: float) -> None:
    strongest = lattice.strongest_gates(gates)
    for nodes, marker, size in ((lattice.nodes, "o", 2.0), (lattice.outputs, "s", 1.7)):
        axes.scatter(
            [node.layer for node in nodes],
            [node.scale for node in nodes],
            s=(size * radius) ** 2,
            marker=marker,
            c=[RAMP(strongest[node]) if strongest[node] > 0 else (1, 1, 1, 1) for node in nodes],
            edgecolors=[TEXT_COLOR if strongest[node] > 0 else FAINT_COLOR for node in nodes],
            linewidths=0.8,
            zorder=4,
        )


def _draw_ticks(axes: Axes, lattice: Lattice, *, period: int) -> None:
    """Draw the ticks of all scales and of every `period`-th layer, without those that are too close to the last one."""
    last = lattice.num_layers + 1
    layers = range(0, last - period + 1, period)
    axes.set_xticks([*layers, last], labels=[*map(str, layers), "out"])
    scales = range(max(lattice.cells_per_layer))
    axes.set_yticks(scales, labels=[f"stride {Node(0, scale).stride}" for scale in scales])
    axes.set_xlabel("layer")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


def _draw_legend(figure: Figure, *, several_images: bool, has_passes: bool) -> None:
    line = functools.partial(Line2D, [], [], linewidth=3)
    dot = functools.partial(Line2D, [], [], linestyle="none", markersize=8, markeredgewidth=0.8)
    handles = {
        "edge open for every image" if several_images else "open edge": line(color=RAMP(0.7)),
        "edge that depends on the image": line(**_DEPENDENT),
        "edge closed for every image" if several_images else "closed edge": Line2D([], [], **CLOSED_STYLE),
        "cell: largest outgoing gate": dot(marker="o", markerfacecolor=RAMP(0.7), markeredgecolor=TEXT_COLOR),
        "closed cell": dot(marker="o", markerfacecolor="white", markeredgecolor=FAINT_COLOR),
        "output": dot(marker="s", markerfacecolor=RAMP(0.7), markeredgecolor=TEXT_COLOR),
    }
    if not several_images:
        del handles["edge that depends on the image"]
    if has_passes:
        handles["input that a closed cell passes on"] = Line2D([], [], **_PASS_STYLE)
    add_lattice_legend(figure, handles, columns=3)
