"""Real cost of images against properties of the images: images sorted by cost, one panel per property."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dl_lib.visualization.curves import set_value_axis
from dl_lib.visualization.figure import (
    COLORS,
    FAINT_COLOR,
    TEXT_COLOR,
    add_title,
    figure_function,
    new_figure,
)

__all__ = ["draw_image_costs"]

_WIDTH, _PANEL_HEIGHT = 7.2, 1.35
_PARTS = 10  # groups of equal size, by cost, whose medians are drawn


@figure_function
def draw_image_costs(
    costs: Sequence[float],
    *,
    properties: Mapping[str, Sequence[float | None]],
    correlations: Mapping[str, float | None],
    title: str = "",
) -> Figure:
    """Draw images from the cheapest to the most expensive one, with their cost and their properties.

    The first panel shows the cost relative to the most expensive image. The others show one property each, with the
    medians over tenths of the images; properties that no image has are omitted.

    Args:
        costs: Positive cost of each image, in any unit.
        properties: Values of each property, by its description; None for images without it.
        correlations: Rank correlation of cost and property, by the same descriptions; None if it is undefined.
        title: Title of the figure.
    """
    order = np.argsort(costs, kind="stable")
    sorted_costs = np.asarray(costs, np.float64)[order]
    panels = {
        label: np.array(values, np.float64)[order]  # NaN for None
        for label, values in properties.items()
        if any(value is not None for value in values)
    }
    figure = new_figure(_WIDTH, _PANEL_HEIGHT * (1 + len(panels)) + 0.8)
    figure.set_layout_engine("constrained", hspace=0.04)
    cost_axes, *property_axes = figure.subplots(1 + len(panels), sharex=True, squeeze=False)[:, 0]
    cost_axes.plot(100 * sorted_costs / sorted_costs[-1], color=COLORS[0], linewidth=1.8)
    cost_axes.set_ylim(0, 105)
    cost_axes.set_title("real cost per pixel (% of the most expensive image)")
    for axes, (label, values) in zip(property_axes, panels.items(), strict=True):
        handles = _draw_property(axes, values)
        correlation = correlations[label]
        axes.set_title(label if correlation is None else f"{label}: rank correlation with the cost {correlation:+.2f}")
    for axes in figure.axes:
        axes.grid()
        axes.locator_params(axis="x", integer=True)
    figure.axes[-1].set_xlabel("images, from the cheapest to the most expensive one")
    add_title(figure, title)
    if panels:
        figure.legend(handles=handles, loc="outside lower left", ncols=2, labelcolor=TEXT_COLOR)
    return figure


def _draw_property(axes: Axes, values: npt.NDArray[np.float64]) -> list[Artist]:
    """Draw the values of sorted images and their medians; return the legend's handles."""
    (dots,) = axes.plot(values, ".", color=FAINT_COLOR, markersize=3, label="one image")
    parts = [part for part in np.array_split(np.arange(len(values)), _PARTS) if np.isfinite(values[part]).any()]
    medians = axes.hlines(
        [np.nanmedian(values[part]) for part in parts],
        [part[0] - 0.5 for part in parts],
        [part[-1] + 0.5 for part in parts],
        colors=COLORS[1],
        linewidths=2.2,
        label="median of a tenth of the images",
    )
    set_value_axis(axes, values[np.isfinite(values)].tolist(), may_be_log=False)
    return [dots, medians]
