"""Reliability diagram: points of the bins, and the pixels of each confidence."""

import numpy as np

from dl_lib.visualization.calibration import Reliability, draw_reliability
from tests.helpers.figures import assert_text_fits

CONFIDENCE = np.array([np.nan, 0.4, 0.6, 0.9])
BINS = Reliability(CONFIDENCE, CONFIDENCE**2, np.array([0, 0.1, 0.2, 0.7]))


def test_bins_with_pixels_are_points():
    names = ["first", "second with a long name 道路 $x$ " * 8]
    figure = draw_reliability(dict.fromkeys(names, BINS))
    assert_text_fits(figure)
    accuracy, pixels = figure.axes
    diagonal, *runs = accuracy.lines
    np.testing.assert_array_equal(diagonal.get_xydata(), [[0, 0], [1, 1]])
    assert len(runs) == 2 and len({line.get_color() for line in runs}) == 2
    for line in runs:
        np.testing.assert_allclose(line.get_xydata(), [[0.4, 0.16], [0.6, 0.36], [0.9, 0.81]])
    for patch in pixels.patches:
        values, edges, _ = patch.get_data()
        np.testing.assert_array_equal(values, BINS.pixel_ratio)
        np.testing.assert_array_equal(edges, [0, 0.25, 0.5, 0.75, 1])


def test_small_ratios_have_different_tick_labels():
    bins = Reliability(CONFIDENCE, CONFIDENCE**2, np.array([0, 1e-4, 1e-3, 1 - 1.1e-3]))
    figure = draw_reliability({"run": bins})
    figure.draw_without_rendering()
    labels = {tick.get_loc(): tick.label1.get_text() for tick in figure.axes[1].yaxis.get_major_ticks()}
    assert [labels[ratio] for ratio in (1e-4, 1e-3, 1e-2, 1e-1, 1)] == ["0.01%", "0.1%", "1%", "10%", "100%"]
