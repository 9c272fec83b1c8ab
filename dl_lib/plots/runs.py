"""The metrics of one or several runs as one picture: a chart for each scalar, a curve for each run."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dl_lib.evaluation.report.canvas import Color, Picture
from dl_lib.plots.axis import Axis, axis_by_range, axis_over
from dl_lib.plots.chart import Chart, Curve
from dl_lib.plots.metrics import Series
from dl_lib.plots.sheet import draw_sheet
from dl_lib.utils.smoothing import smoothed

__all__ = ["COLORS", "chosen_scalars", "draw_runs", "drawn_by_default"]

# Six colours that people with any colour vision can tell apart (Okabe and Ito, https://jfly.uni-koeln.de/color/),
# those with enough contrast to white.
COLORS: tuple[Color, ...] = (
    *((0, 114, 178), (213, 94, 0), (0, 158, 115)),
    *((204, 121, 167), (86, 180, 233), (230, 159, 0)),
)
_CHART_SIZE = (372, 210)
_COLUMNS = 3
_FEW_VALUES = 40  # up to which each has a disc, where they are not smoothed


@dataclass(frozen=True)
class _Family:
    """Scalars that are drawn in the same way.

    Attributes:
        names: a regular expression that fits their whole names; its groups fill the title.
        title: with the unit.
        factor: from the value to what is shown.
        may_be_log: whether ratios tell more than differences.
        is_smooth: whether they are so by themselves, and never smoothed.
        is_rare: whether they come with evaluations: never smoothed, each value a disc.
        by_default: whether they are drawn where nothing is said.
    """

    names: str
    title: str
    factor: float = 1.0
    may_be_log: bool = False
    is_smooth: bool = False
    is_rare: bool = False
    by_default: bool = True


_FAMILIES = (  # in the order of the charts; the last one takes what no other does
    _Family("total_loss", "total loss", may_be_log=True),
    _Family("loss_(.+)", "loss: {0}", may_be_log=True),
    _Family("(.+)/val_total_loss", "validation loss on {0}", is_rare=True),
    _Family("(.+)/val_loss_(.+)", "validation loss: {1} on {0}", is_rare=True),
    _Family("learning_rate", "learning rate", may_be_log=True, is_smooth=True),
    _Family("gradient_norm", "gradient norm (L2, before clipping)", may_be_log=True),
    _Family("expt_gflops", "expected cost (GFLOPs per image)"),
    _Family("gate_stride_(.+)", "mean gate at stride {0}"),
    _Family("(.+)/((?:mIoU|fwIoU|mACC|pACC|IoU|ACC|boundary).*)", "{1} on {0} (%)", factor=100.0, is_rare=True),
    _Family("(.+)/expt_gflops", "expected cost on {0} (GFLOPs)", is_rare=True),
    _Family("(.+)/(.*gflops.*)", "{1} on {0} (GFLOPs)", is_rare=True, by_default=False),
    _Family("(.*gflops.*)", "{0} (GFLOPs per image)", by_default=False),
    _Family("iteration_seconds", "seconds per iteration"),
    _Family("data_seconds", "seconds of waiting for data"),
    _Family("images_per_second", "images per second"),
    _Family("memory_mib", "most memory so far (MiB)", is_smooth=True),
    _Family("(.+)/(.+)", "{1} on {0}", is_rare=True),
    _Family("(.+)", "{0}"),
)


def drawn_by_default(name: str) -> bool:
    """Whether a scalar is drawn where nothing is said: all but those costs that follow from others."""
    return _FAMILIES[_family(name)].by_default


def chosen_scalars(names: Sequence[str], patterns: Sequence[str]) -> list[str]:
    """The names that one of the shell patterns fits; without patterns those of `drawn_by_default`."""
    if not patterns:
        return [name for name in names if drawn_by_default(name)]
    return [name for name in names if any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)]


def draw_runs(runs: Mapping[str, Mapping[str, Series]], *, scalars: Sequence[str], smoothing: float) -> Picture:
    """Draws curves of runs.

    Args:
        runs: by the name of each its scalars; as many as there are `COLORS`, at most.
        scalars: those that are drawn, each in at least one of the runs.
        smoothing: see `smoothed`; 0 draws the values as they are.

    Returns:
        uint8 (height, width, 3), RGB.
    """
    colors = dict(zip(runs, COLORS, strict=False))
    longest = max(series.iterations[-1] for scalars_of in runs.values() for series in scalars_of.values())
    x_axis = Axis(0, longest * 1.02)
    ordered = sorted(scalars, key=_family)  # those of a family stay in their own order
    charts = [_chart(name, runs=runs, colors=colors, smoothing=smoothing, x_axis=x_axis) for name in ordered]
    faint = f"; faint: as logged, strong: moving average ({smoothing:g})" if smoothing else ""
    return draw_sheet(
        charts,
        title=next(iter(runs)) if len(runs) == 1 else f"{len(runs)} runs",
        key=colors,
        caption=f"over iterations (optimizer steps done){faint}",
        columns=min(_COLUMNS, len(charts)),
        chart_size=_CHART_SIZE,
    )


def _chart(
    name: str,
    *,
    runs: Mapping[str, Mapping[str, Series]],
    colors: Mapping[str, Color],
    smoothing: float,
    x_axis: Axis,
) -> Chart:
    family = _FAMILIES[_family(name)]
    curves = []
    for run, scalars in runs.items():
        if name in scalars:
            curves.append(_curve(scalars[name], family=family, color=colors[run], smoothing=smoothing))
    values = [value for curve in curves for value in (*curve.ys, *curve.backdrop)]
    fit = re.fullmatch(family.names, name)
    assert fit is not None, "the last family fits every name"
    return Chart(
        family.title.format(*fit.groups()),
        curves=tuple(curves),
        x_axis=x_axis,
        y_axis=axis_by_range(values) if family.may_be_log else axis_over(values),
    )


def _curve(series: Series, *, family: _Family, color: Color, smoothing: float) -> Curve:
    values = tuple(family.factor * value for value in series.values)
    has_discs = family.is_rare and len(values) <= _FEW_VALUES
    if family.is_rare or family.is_smooth or not smoothing:
        return Curve(series.iterations, values, color, has_discs=has_discs)
    return Curve(series.iterations, smoothed(values, decay=smoothing), color, backdrop=values)


def _family(name: str) -> int:
    """Position of the first family that a scalar belongs to."""
    return next(number for number, family in enumerate(_FAMILIES) if re.fullmatch(family.names, name))
