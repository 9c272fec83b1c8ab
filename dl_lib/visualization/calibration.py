"""Reliability diagram: accuracy of the pixels over their confidence (arXiv 1706.04599, figure 1)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, PercentFormatter

from dl_lib.visualization.figure import CAPTION_SIZE, COLORS, FAINT_COLOR, figure_function, fit_text, new_figure

__all__ = ["Reliability", "draw_reliability"]

_WIDTH, _HEIGHT = 8.4, 3.6


@dataclass(frozen=True, eq=False)
class Reliability:
    """Pixels in bins of equal width in [0, 1] by confidence, float64 (bins,).

    Attributes:
        confidence: Mean confidence of the pixels in each bin, in [0, 1]; NaN in empty bins.
        accuracy: Ratio of correct pixels in each bin, in [0, 1]; NaN in empty bins.
        pixel_ratio: Ratio of all pixels in each bin; the sum is 1.
    """

    confidence: npt.NDArray[np.float64]
    accuracy: npt.NDArray[np.float64]
    pixel_ratio: npt.NDArray[np.float64]


@figure_function
def draw_reliability(runs: Mapping[str, Reliability]) -> Figure:
    """Draw accuracy over confidence, with the diagonal of perfect calibration, and the pixels of each confidence.

    Args:
        runs: Bins of each run by its name, at most one run per color in `COLORS`.
    """
    figure = new_figure(_WIDTH, _HEIGHT + 0.25 * len(runs))
    figure.set_layout_engine("constrained", wspace=0.06)
    accuracy_axes, pixel_axes = figure.subplots(1, 2)
    accuracy_axes.plot([0, 1], [0, 1], color=FAINT_COLOR, linestyle=":", linewidth=1.4)
    accuracy_axes.set_title("accuracy (dotted: perfect calibration)")
    pixel_axes.set_title("pixels of each confidence, logarithmic")
    handles = []
    for color, (name, bins) in zip(COLORS, runs.items(), strict=False):
        shown = np.isfinite(bins.accuracy)
        handles += accuracy_axes.plot(
            bins.confidence[shown],
            bins.accuracy[shown],
            color=color,
            linewidth=1.6,
            marker="o",
            markersize=4,
            label=fit_text(name, width=_WIDTH - 1, size=CAPTION_SIZE),
        )
        edges = np.linspace(0, 1, len(bins.pixel_ratio) + 1)
        pixel_axes.stairs(bins.pixel_ratio, edges, color=color, linewidth=1.6)
    pixel_axes.set_yscale("log")
    pixel_axes.yaxis.set_major_formatter(FuncFormatter(lambda ratio, _: f"{100 * ratio:g}%"))
    for axes in (accuracy_axes, pixel_axes):
        axes.set_xlim(0, 1)
        axes.xaxis.set_major_formatter(PercentFormatter(1))
        axes.set_xlabel("confidence")
        axes.grid()
    accuracy_axes.set_ylim(0, 1)
    accuracy_axes.yaxis.set_major_formatter(PercentFormatter(1))
    figure.legend(handles=handles, loc="outside upper left")
    return figure
