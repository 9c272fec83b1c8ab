"""Score against cost: means, standard deviations, styles, text that fits."""

import pytest

from dl_lib.visualization.tradeoff import Series, draw_tradeoff
from tests.helpers.figures import assert_text_fits

PANEL = [
    Series("routed", costs=[[4.0, 4.0], [1.0, 3.0]], scores=[[70.0, 74.0], [60.0, 60.0]]),
    Series("U-Net with a name that is rather long", costs=[[9.0]], scores=[[50.0]]),
    Series("道路", costs=[[90.0]], scores=[[55.0]]),
]


def test_points_are_means_in_the_order_of_the_cost_with_bars_of_one_deviation():
    (axes,) = draw_tradeoff({"Scenes": PANEL}, cost="GFLOPs", score="mIoU (%)").axes
    points, _, (horizontal, vertical) = axes.containers[0]
    assert points.get_xydata().tolist() == [[2, 60], [4, 72]]
    assert horizontal.get_segments()[0][:, 0] == pytest.approx([2 - 2**0.5, 2 + 2**0.5])
    assert vertical.get_segments()[1][:, 1] == pytest.approx([72 - 8**0.5, 72 + 8**0.5])


def test_panels_share_a_legend_and_text_does_not_overlap():
    figure = draw_tradeoff({"Scenes": PANEL[:2], "Photos": PANEL[1:]}, cost="GFLOPs", score="mIoU (%)")
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["Scenes", "Photos"]
    assert len(figure.legends[0].get_texts()) == 3
    assert_text_fits(figure)


def test_series_differ_in_color_and_many_in_color_or_marker():
    series = [Series(f"network {i}", costs=[[float(i + 1)]], scores=[[50.0]]) for i in range(30)]
    (axes,) = draw_tradeoff({"Scenes": series}, cost="GFLOPs", score="mIoU (%)").axes
    styles = [(points.get_color(), points.get_marker()) for points, *_ in axes.containers]
    assert len(set(styles)) == 30 and len({color for color, _ in styles[:10]}) == 10
