"""Training curves: one panel per scalar, one curve per training run."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import EngFormatter, LogLocator

from dl_lib.utils.metrics_file import Series
from dl_lib.utils.smoothing import smoothed
from dl_lib.visualization.figure import (
    CAPTION_SIZE,
    COLORS,
    LABEL_SIZE,
    figure_function,
    fit_text,
    new_figure,
    plain_numbers,
    shorten,
    text_width,
)

__all__ = ["draw_curves", "select_scalars", "set_value_axis"]

_PANEL_WIDTH, _PANEL_HEIGHT = 3.1, 1.9
_COLUMNS = 3
_LONGEST_TITLE = 120  # characters, about three lines
_MOST_MARKERS = 40  # evaluations of a run up to which each one has a marker
_LOG_ABOVE = 30.0  # ratio of the largest to the smallest value above which a log axis is used
_ZERO_BELOW = 0.5  # ratio of the smallest to the largest value below which a linear axis starts at 0


@dataclass(frozen=True)
class _Panel:
    """Presentation of a group of scalars.

    Attributes:
        names: Regular expression that matches the whole name; its groups fill the title.
        title: Format string, with the unit.
        factor: Multiplier from the logged value to the drawn one.
        may_be_log: Whether a wide range of values gets a log axis.
        is_smooth: Whether the values have no noise and are never smoothed.
        is_eval: Whether the values come from evaluations: never smoothed, one marker each.
        by_default: Whether the scalars are drawn when no pattern is given.
    """

    names: str
    title: str
    factor: float = 1.0
    may_be_log: bool = False
    is_smooth: bool = False
    is_eval: bool = False
    by_default: bool = True


_PANELS = (  # in the order of the figure; the first match counts, the last one matches every name
    _Panel("total_loss", "total loss", may_be_log=True),
    _Panel("loss_(.+)", "loss: {0}", may_be_log=True),
    _Panel("(.+)/val_total_loss", "validation loss on {0}", is_eval=True),
    _Panel("(.+)/val_loss_(.+)", "validation loss: {1} on {0}", is_eval=True),
    _Panel("learning_rate", "learning rate", may_be_log=True, is_smooth=True),
    _Panel("gradient_norm", "gradient norm (L2, before clipping)", may_be_log=True),
    _Panel("expt_gflops", "expected cost (GFLOPs per image)"),
    _Panel("gate_stride_(.+)", "mean gate at stride {0}"),
    _Panel("(.+)/((?:mIoU|fwIoU|mACC|pACC|IoU|ACC|boundary).*)", "{1} on {0} (%)", factor=100.0, is_eval=True),
    _Panel("(.+)/expt_gflops", "expected cost on {0} (GFLOPs)", is_eval=True),
    _Panel("(.+)/(.*gflops.*)", "{1} on {0} (GFLOPs)", is_eval=True, by_default=False),
    _Panel("(.*gflops.*)", "{0} (GFLOPs per image)", by_default=False),
    _Panel("iteration_seconds", "seconds per iteration"),
    _Panel("data_seconds", "waiting for data (s per iteration)"),
    _Panel("images_per_second", "images per second"),
    _Panel("memory_mib", "peak memory (MiB)", is_smooth=True),
    _Panel("(.+)/(.+)", "{1} on {0}", is_eval=True),
    _Panel("(.+)", "{0}"),
)


def select_scalars(names: Sequence[str], patterns: Sequence[str]) -> list[str]:
    """Return the names that match a shell pattern; without patterns, all but derived costs, in the figure's order.

    Args:
        names: Scalars of the runs.
        patterns: Shell patterns such as `loss_*`.
    """
    if not patterns:
        return sorted((name for name in names if _PANELS[_panel_index(name)].by_default), key=_panel_index)
    return [name for name in names if any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)]


@figure_function
def draw_curves(runs: Mapping[str, Mapping[str, Series]], *, scalars: Sequence[str], smoothing: float = 0.0) -> Figure:
    """Plot scalars of one or several runs against the iteration.

    Args:
        runs: Scalars of each run, by the run's name; at most one run per color in `COLORS`.
        scalars: Scalars to draw, each logged by at least one run.
        smoothing: Decay of the EMA in [0, 1), see `smoothed`; 0 disables it. The logged values stay visible behind the
            EMA. Evaluations and noise-free scalars such as the learning rate are never smoothed.

    Raises:
        ValueError: If there are more runs than colors.
    """
    if len(runs) > len(COLORS):
        raise ValueError(
            f"runs must contain at most {len(COLORS)} runs, one per color. Received: len(runs)={len(runs)}"
        )
    ordered = sorted(scalars, key=_panel_index)  # scalars of one panel type keep their order
    columns = min(_COLUMNS, len(ordered))
    rows = -(-len(ordered) // columns)
    width = max(_PANEL_WIDTH * columns, 1.5 * _PANEL_WIDTH)
    colors = dict(zip(runs, COLORS, strict=False))
    legend_columns, labels = _legend_labels(list(runs), width=width)
    header_lines = sum(label.count("\n") + 1 for label in labels) / legend_columns + 1
    figure = new_figure(width, _PANEL_HEIGHT * rows + 0.22 * header_lines + 0.3)
    figure.set_layout_engine("constrained", hspace=0.06, wspace=0.04)
    grid = figure.subplots(rows, columns, squeeze=False)
    last = max(series.iterations[-1] for scalars_of in runs.values() for series in scalars_of.values())
    for number, axes in enumerate(grid.flat):
        if number >= len(ordered):
            axes.set_visible(False)
            continue
        _draw_panel(axes, ordered[number], runs=runs, colors=colors, smoothing=smoothing)
        axes.set_xlim(0, 1.02 * max(last, 1))
        if number + columns >= len(ordered):
            axes.set_xlabel("iteration", fontsize=CAPTION_SIZE)
    handles = [Line2D([], [], color=color, linewidth=2.5) for color in colors.values()]
    note = f"EMA smoothing {smoothing:g}; faint: logged values" if smoothing else None
    legend = figure.legend(
        handles, labels, loc="outside upper left", ncols=legend_columns, title=note, alignment="left"
    )
    legend.get_title().set_fontsize(CAPTION_SIZE)
    return figure


def set_value_axis(axes: Axes, values: Sequence[float], *, may_be_log: bool) -> None:
    """Scale the y axis to values: logarithmic if allowed and the range is wide, from 0 if that costs little space."""
    low, high = min(values), max(values)
    if may_be_log and low > 0 and high > _LOG_ABOVE * low:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1,) if high > 1000 * low else (1, 3), numticks=6))
    elif 0 <= low < _ZERO_BELOW * high:
        axes.set_ylim(0, 1.05 * high)
    plain_numbers(axes.yaxis)


def _draw_panel(
    axes: Axes,
    name: str,
    *,
    runs: Mapping[str, Mapping[str, Series]],
    colors: Mapping[str, str],
    smoothing: float,
) -> None:
    panel = _PANELS[_panel_index(name)]
    drawn: list[float] = []
    for run, scalars in runs.items():
        if name not in scalars:
            continue
        steps, values = scalars[name].iterations, [panel.factor * value for value in scalars[name].values]
        curve = values
        if smoothing and not panel.is_eval and not panel.is_smooth:
            axes.plot(steps, values, color=colors[run], alpha=0.3, linewidth=0.7)
            curve = smoothed(values, decay=smoothing)
        marker = "o" if len(values) == 1 or (panel.is_eval and len(values) <= _MOST_MARKERS) else ""
        axes.plot(steps, curve, color=colors[run], linewidth=1.4, marker=marker, markersize=3.5)
        drawn += (*values, *curve)
    match = re.fullmatch(panel.names, name, re.DOTALL)
    assert match is not None, "the last panel matches every name"
    title = shorten(panel.title.format(*match.groups()), _LONGEST_TITLE)
    axes.set_title(fit_text(title, width=_PANEL_WIDTH - 0.6, size=LABEL_SIZE))
    set_value_axis(axes, drawn, may_be_log=panel.may_be_log)
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.locator_params(axis="x", nbins=4, integer=True)
    axes.grid()


def _panel_index(name: str) -> int:
    return next(index for index, panel in enumerate(_PANELS) if re.fullmatch(panel.names, name, re.DOTALL))


def _legend_labels(names: Sequence[str], *, width: float) -> tuple[int, list[str]]:
    """Return the number of legend columns that fit the width, and the names wrapped to the column width."""
    handle = 0.55  # inches of a line, its distance to the name and to the next column
    labels = [fit_text(name, width=width - handle - 0.2, size=CAPTION_SIZE) for name in names]
    widest = max(text_width(line, size=CAPTION_SIZE) for label in labels for line in label.split("\n"))
    return max(1, min(len(names), int((width - 0.2) / (widest + handle)))), labels
