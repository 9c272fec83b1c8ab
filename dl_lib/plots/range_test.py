"""The curve of a learning rate range test."""

from __future__ import annotations

from dl_lib.evaluation.report.canvas import Picture
from dl_lib.plots.axis import axis_by_range, log_axis_over
from dl_lib.plots.chart import Chart, Curve, Mark
from dl_lib.plots.runs import COLORS
from dl_lib.plots.sheet import draw_sheet
from dl_lib.solver.lr_finder import LRFinderResult

__all__ = ["draw_range_test"]

_CHART_SIZE = (720, 400)


def draw_range_test(result: LRFinderResult, *, name: str) -> Picture:
    """Draws the loss over the learning rate, with the suggestion.

    Args:
        result: with one rate at least.
        name: of what was tested.

    Returns:
        uint8 (height, width, 3), RGB.
    """
    curve = Curve(result.rates, result.smoothed, COLORS[0], backdrop=result.losses)
    suggestion = result.suggestion
    marks = () if suggestion is None else (Mark(suggestion, f"steepest descent: {suggestion:.2g}"),)
    chart = Chart(
        "total loss",
        curves=(curve,),
        x_axis=log_axis_over(result.rates),
        y_axis=axis_by_range([*result.losses, *result.smoothed]),
        marks=marks,
    )
    return draw_sheet(
        [chart],
        title=f"Learning rate range test: {name}",
        key={},
        caption="over the learning rate (SOLVER.OPTIMIZER.BASE_LR); faint: of each step, strong: moving average",
        columns=1,
        chart_size=_CHART_SIZE,
    )
