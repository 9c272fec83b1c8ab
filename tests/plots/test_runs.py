"""Pictures of metrics: where the curves lie, in which colours, and what is not drawn."""

import numpy as np
import pytest

from dl_lib.evaluation.report.canvas import Canvas, text_width
from dl_lib.plots.axis import Axis
from dl_lib.plots.chart import Chart, Curve, Mark, draw_chart, fitted_text, plot_area
from dl_lib.plots.metrics import Series
from dl_lib.plots.runs import COLORS, chosen_scalars, draw_runs

BLUE = COLORS[0]


def has_color(picture, color):
    return (picture == np.array(color)).all(axis=2)


def test_a_curve_goes_through_its_values():
    canvas = Canvas.blank(200, 300)
    curve = Curve([0, 10], [1.0, 5.0], BLUE, has_discs=True)
    chart = Chart("title", (curve,), Axis(0, 10), Axis(0, 5), marks=(Mark(2.5, "here"),))
    draw_chart(canvas, chart, corner=(0, 0), size=(300, 200))
    picture, area = canvas.finished(), plot_area((0, 0), size=(300, 200))
    for x_share, y_share in ((0, 0.2), (0.5, 0.6), (1, 1)):
        x, y = (round(place) for place in area.at(x_share, y_share))
        assert has_color(picture[y - 2 : y + 3, x - 2 : x + 3], BLUE).any()
    x, y = (round(place) for place in area.at(0.25, 0.1))
    assert (picture[y, x - 1 : x + 2] < 128).all(axis=1).any(), "the mark's line"


def test_of_many_values_in_a_column_the_highest_and_the_lowest_are_seen():
    values = [0.5] * 50_000
    values[20_000], values[30_000] = 1.0, 0.0
    canvas = Canvas.blank(200, 300)
    draw_chart(
        canvas,
        Chart("", (Curve(range(50_000), values, BLUE),), Axis(0, 50_000), Axis(0, 1)),
        corner=(0, 0),
        size=(300, 200),
    )
    rows = np.flatnonzero(has_color(canvas.finished(), BLUE).any(axis=1))
    area = plot_area((0, 0), size=(300, 200))
    assert (rows.min(), rows.max()) == pytest.approx((area.top, area.top + area.height), abs=3)


def runs(number):
    iterations = tuple(range(20, 220, 20))
    scalars = {
        "total_loss": Series(iterations, tuple(1 / iteration for iteration in iterations)),
        "toy/mIoU": Series((100, 200), (0.4, 0.6)),
        "executed_gflops": Series(iterations, (1.0,) * 10),
    }
    return {f"run {i}": {"total_loss": scalars["total_loss"]} if i == 3 else scalars for i in range(number)}


@pytest.mark.parametrize("number", [1, 6])
def test_each_run_has_its_colour_and_smoothing_leaves_the_values_behind(number):
    drawn = draw_runs(runs(number), scalars=["total_loss", "toy/mIoU"], smoothing=0.9)
    assert drawn.dtype == np.uint8
    assert all(has_color(drawn, color).any() for color in COLORS[:number])
    assert not any(has_color(drawn, color).any() for color in COLORS[number:])
    plain = draw_runs(runs(number), scalars=["total_loss", "toy/mIoU"], smoothing=0.0)
    assert drawn.shape == plain.shape and not np.array_equal(drawn, plain)


def test_learning_rates_and_scores_are_never_smoothed():
    series = {"learning_rate": Series((1, 2, 3), (0.1, 0.2, 0.05)), "toy/mIoU": Series((1, 2), (0.1, 0.2))}
    pictures = [draw_runs({"a": series}, scalars=list(series), smoothing=share) for share in (0.0, 0.9)]
    above_caption = pictures[0].shape[0] - 30
    assert np.array_equal(pictures[0][:above_caption], pictures[1][:above_caption])


def test_costs_that_follow_from_others_are_drawn_when_asked_for():
    names = list(runs(1)["run 0"])
    assert chosen_scalars(names, []) == ["total_loss", "toy/mIoU"]
    assert chosen_scalars(names, ["*gflops", "total*"]) == ["total_loss", "executed_gflops"]


def test_a_text_that_is_too_long_keeps_its_beginning():
    fitted = fitted_text("a rather long title of a chart", size=13, room=100)
    assert fitted.startswith("a rat") and fitted.endswith("...") and text_width(fitted, size=13) <= 100
    assert fitted_text("short", size=13, room=100) == "short"
