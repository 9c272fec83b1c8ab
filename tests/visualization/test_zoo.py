"""Comparison of experiments: data of bars and dots, omitted columns, text that does not overlap."""

import pytest
from matplotlib.colors import to_rgba

from dl_lib.visualization.figure import COLORS
from dl_lib.visualization.zoo import draw_zoo
from tests.helpers.figures import assert_text_fits

NAMES = ["Baseline", "CondConv-4-experts-at-all-strides-wide-and-deep", "道路"]
COLUMNS = {
    "mIoU of the runs (%)": [[20.0, 50.0, 80.0], [60.0], []],
    "GFLOPs at 1024x2048": [[121.06], [123456.0], [0.001]],
    "s on the CPU": [[], [], []],
}


def test_bars_end_at_the_means_and_several_values_are_dots():
    scores, gflops = draw_zoo(NAMES, columns=COLUMNS).axes
    assert [bar.get_width() for bar in scores.patches] == [50, 60]
    assert [bar.get_y() + bar.get_height() / 2 for bar in scores.patches] == [0, 1]
    assert [list(line.get_xdata()) for line in scores.lines] == [[20, 50, 80]]
    assert to_rgba(scores.lines[0].get_color()) == to_rgba(COLORS[0])
    assert [bar.get_width() for bar in gflops.patches] == [121.06, 123456, 0.001]
    assert [text.get_text() for text in gflops.texts] == ["121", "123000", "0.001"]


def test_columns_without_values_are_omitted():
    assert [axes.get_title(loc="left") for axes in draw_zoo(NAMES, columns=COLUMNS).axes] == list(COLUMNS)[:2]


@pytest.mark.parametrize("number", [1, 12])
def test_text_does_not_overlap(number):
    columns = {title: (values * 4)[:number] for title, values in COLUMNS.items()}
    assert_text_fits(draw_zoo((NAMES * 4)[:number], columns=columns))


def test_scores_of_zero_are_drawn():
    (axes,) = draw_zoo(["one"], columns={"mIoU (%)": [[0.0]]}).axes
    assert axes.get_xlim()[0] == 0 < axes.get_xlim()[1]
