"""Training curves: data of the lines, smoothing, markers, axes, and text that does not overlap."""

import numpy as np
import pytest
from matplotlib.colors import to_rgba

from dl_lib.utils.metrics_file import Series
from dl_lib.utils.smoothing import smoothed
from dl_lib.visualization.curves import draw_curves, select_scalars
from dl_lib.visualization.figure import COLORS
from tests.helpers.figures import assert_text_fits

ITERATIONS = tuple(range(20, 220, 20))
LOSS = Series(ITERATIONS, tuple(100 / iteration for iteration in ITERATIONS))
SCORE = Series((100, 200), (0.4, 0.6))
RATE = Series(ITERATIONS, tuple(0.1 - 0.0004 * iteration for iteration in ITERATIONS))


def panels(figure):
    """Return the axes of each scalar by title."""
    return {axes.get_title(loc="left"): axes for axes in figure.axes if axes.get_visible()}


def data(line):
    return list(line.get_xdata()), list(line.get_ydata())


def test_lines_hold_the_logged_values_in_the_color_of_their_run():
    runs = {"one": {"total_loss": LOSS, "toy/mIoU": SCORE}, "other": {"total_loss": SCORE}}
    drawn = panels(draw_curves(runs, scalars=["toy/mIoU", "total_loss"]))
    assert list(drawn) == ["total loss", "mIoU on toy (%)"], "panels have their own order"
    one, other = drawn["total loss"].lines
    assert data(one) == (list(LOSS.iterations), list(LOSS.values)) and data(other) == ([100, 200], [0.4, 0.6])
    assert [to_rgba(line.get_color()) for line in (one, other)] == [to_rgba(color) for color in COLORS[:2]]
    (score,) = drawn["mIoU on toy (%)"].lines
    assert data(score) == ([100, 200], [40, 60])
    assert (one.get_marker(), score.get_marker()) == ("", "o")
    assert [text.get_text() for text in drawn["total loss"].figure.legends[0].get_texts()] == ["one", "other"]


def test_smoothing_keeps_the_logged_values_and_skips_evaluations_and_learning_rates():
    scalars = {"total_loss": LOSS, "learning_rate": RATE, "toy/mIoU": SCORE}
    drawn = panels(draw_curves({"run": scalars}, scalars=list(scalars), smoothing=0.9))
    logged, ema = drawn["total loss"].lines
    assert data(logged)[1] == list(LOSS.values) and data(ema)[1] == smoothed(LOSS.values, decay=0.9)
    assert logged.get_alpha() < 0.5 and logged.get_linewidth() < ema.get_linewidth()
    assert [len(drawn[title].lines) for title in ("learning rate", "mIoU on toy (%)")] == [1, 1]


def test_wide_ranges_have_a_log_axis_and_positive_ones_start_at_zero():
    wide = Series((1, 2, 3), (1000.0, 10.0, 1.0))
    run = {"total_loss": wide, "loss_a": Series((1, 2), (1.0, 3.0)), "loss_b": Series((1, 2), (2.9, 3.0))}
    drawn = panels(draw_curves({"run": {**run, "toy/mIoU": wide}}, scalars=[*run, "toy/mIoU"]))
    assert [axes.get_yscale() for axes in drawn.values()] == ["log", "linear", "linear", "linear"]
    assert drawn["loss: a"].get_ylim()[0] == 0 < drawn["loss: b"].get_ylim()[0]


def test_a_single_value_is_visible():
    (axes,) = panels(draw_curves({"run": {"total_loss": Series((5,), (1.0,))}}, scalars=["total_loss"])).values()
    assert axes.lines[0].get_marker() == "o"


def test_scalars_of_the_first_iteration_and_with_any_name_are_drawn():
    scalars = {"$a\nb$/c": Series((0,), (0.0,)), "loss_{0}": Series((0,), (1.0,))}
    assert len(panels(draw_curves({"run": scalars}, scalars=list(scalars)))) == 2


def test_derived_costs_are_drawn_on_request():
    names = ["total_loss", "toy/mIoU", "executed_gflops"]
    assert select_scalars(names[::-1], []) == ["total_loss", "toy/mIoU"]
    assert select_scalars(names, ["*gflops", "total*"]) == ["total_loss", "executed_gflops"]


@pytest.mark.parametrize(("number", "smoothing"), [(1, 0.0), (6, 0.9)])
def test_text_does_not_overlap(number, smoothing):
    rng = np.random.default_rng(0)
    scalars = {
        **{"total_loss": LOSS, "learning_rate": Series(ITERATIONS, tuple(10.0**-i for i in range(10)))},
        **{f"a_data_set_with_a_long_name_道路/{name}": SCORE for name in ("mIoU", "val_loss_sem_seg", "expt_gflops")},
        "memory_mib": Series((20, 190_000), (12345.0, 123456.0)),
        **{f"loss_{i}": Series(ITERATIONS, tuple(10.0**i * rng.random(10))) for i in range(-7, 8, 3)},
    }
    runs = {f"{i} a run/with a very long name $x$ {'that_goes_on_' * 3 * i}": scalars for i in range(number)}
    assert_text_fits(draw_curves(runs, scalars=list(scalars), smoothing=smoothing))


def test_there_must_be_a_color_per_run():
    with pytest.raises(ValueError, match=r"runs .* Received: len\(runs\)=7$"):
        draw_curves({str(index): {"total_loss": LOSS} for index in range(7)}, scalars=["total_loss"])


def test_a_very_long_name_leaves_space_for_the_curve():
    scalars = {"a" * 500: LOSS, "total_loss": LOSS}
    figure = draw_curves({"run": scalars}, scalars=list(scalars))
    assert all(axes.get_position().height > 0.3 for axes in figure.axes)
    assert "…" in figure.axes[1].get_title("left")
