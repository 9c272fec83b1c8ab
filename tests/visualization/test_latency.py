"""Figure of predicted against measured latency."""

import pytest

from dl_lib.visualization.latency import draw_latency


def test_points_and_band_of_ten_percent():
    figure = draw_latency([1.0, 2.2], [1.1, 2.0], title="Latency")
    (axes,) = figure.axes
    equal, points = axes.lines
    assert points.get_xdata().tolist() == [1.1, 2.0] and points.get_ydata().tolist() == [1.0, 2.2]
    limit = axes.get_xlim()[1]
    assert limit == axes.get_ylim()[1] > 2.2 and list(equal.get_xdata()) == list(equal.get_ydata()) == [0, limit]
    (band,) = axes.collections
    corners = band.get_paths()[0].vertices
    assert max(corners[:, 1]) == pytest.approx(1.1 * limit)
