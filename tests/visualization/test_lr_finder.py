"""Learning rate range test figures: data of the lines, mark of the suggestion, text that does not overlap."""

import pytest

from dl_lib.visualization.lr_finder import draw_lr_finder
from tests.helpers.figures import assert_text_fits

RATES, LOSSES, SMOOTHED = [1e-4, 1e-2, 1.0], [3.0, 2.0, 9.0], [3.0, 2.5, 5.0]


def test_losses_and_their_ema_are_drawn_over_the_rate():
    axes = draw_lr_finder(RATES, LOSSES, SMOOTHED).axes[0]
    assert axes.get_xscale() == "log"
    assert [(list(line.get_xdata()), list(line.get_ydata())) for line in axes.lines] == [
        (RATES, LOSSES),
        (RATES, SMOOTHED),
    ]


def test_the_suggestion_is_marked():
    figure = draw_lr_finder(RATES, LOSSES, SMOOTHED, suggestion=0.0123)
    assert list(figure.axes[0].lines[-1].get_xdata()) == [0.0123] * 2
    assert figure.legends[0].get_texts()[-1].get_text() == "steepest descent: 0.012"


@pytest.mark.parametrize("rates", [[1e-9, 1e-4, 100.0], [0.01, 0.02, 0.03], [0.1]])
def test_text_does_not_overlap(rates):
    number = len(rates)
    figure = draw_lr_finder(rates, LOSSES[:number], SMOOTHED[:number], suggestion=rates[0], title="a long name " * 12)
    assert_text_fits(figure)
