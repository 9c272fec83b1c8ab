"""Learning-rate range test (arXiv 1506.01186, section 3.3): loss against learning rate."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from dl_lib.visualization.curves import set_value_axis
from dl_lib.visualization.figure import (
    COLORS,
    TEXT_COLOR,
    add_title,
    figure_function,
    new_figure,
    plain_numbers,
)

__all__ = ["draw_lr_finder"]

_WIDTH, _HEIGHT = 7.2, 4.2
_MARGIN_FACTOR = 1.5  # of the learning rate axis, at both ends


@figure_function
def draw_lr_finder(
    rates: Sequence[float],
    losses: Sequence[float],
    smoothed: Sequence[float],
    *,
    suggestion: float | None = None,
    title: str = "",
) -> Figure:
    """Draw the loss at each learning rate, with its EMA and the suggested learning rate.

    Args:
        rates: Learning rates, ascending.
        losses: Loss of the step with each rate.
        smoothed: EMA of the losses.
        suggestion: Learning rate to mark.
        title: Title of the figure.
    """
    figure = new_figure(_WIDTH, _HEIGHT)
    figure.set_layout_engine("constrained")
    axes = figure.subplots()
    axes.plot(rates, losses, color=COLORS[0], alpha=0.35, linewidth=0.9, label="loss of each step")
    axes.plot(rates, smoothed, color=COLORS[0], linewidth=1.8, marker="o" if len(rates) == 1 else "", label="EMA")
    if suggestion is not None:
        axes.axvline(suggestion, color=COLORS[1], linestyle="--", label=f"steepest descent: {suggestion:.2g}")
    axes.set_xscale("log")
    axes.set_xlim(rates[0] / _MARGIN_FACTOR, rates[-1] * _MARGIN_FACTOR)
    plain_numbers(axes.xaxis)
    set_value_axis(axes, [*losses, *smoothed], may_be_log=True)
    axes.set_xlabel("learning rate (SOLVER.OPTIMIZER.BASE_LR)")
    axes.set_ylabel("total loss")
    axes.grid()
    add_title(figure, title)
    figure.legend(loc="outside lower left", ncols=3, labelcolor=TEXT_COLOR)
    return figure
