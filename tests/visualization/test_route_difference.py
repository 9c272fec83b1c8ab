"""Figure of the difference of two routings: signs, widths, equal edges, text."""

import numpy as np
import pytest
from matplotlib.collections import LineCollection

from dl_lib.modeling.dynamic.lattice import Lattice
from dl_lib.visualization.route_difference import draw_route_difference
from tests.helpers.figures import assert_text_fits

LATTICE = Lattice([2, 3, 4, 4])


def ends(edge):
    return (edge.source.layer, edge.source.scale), (edge.target.layer, edge.target.scale)


def draw(first, second, names=("a", "b")):
    values = [[gates.get(edge, 0.0) for edge in LATTICE.edges] for gates in (first, second)]
    return draw_route_difference(LATTICE, first=values[0], second=values[1], names=names, title="b minus a")


def test_changed_edges_have_the_color_and_width_of_the_difference():
    wider, narrower, slightly, equal = LATTICE.edges[:4]
    figure = draw({narrower: 0.9, equal: 0.5, slightly: 0.5}, {wider: 0.4, narrower: 0.1, equal: 0.5, slightly: 0.51})
    closed, *_, changed = [item for item in figure.axes[0].collections if isinstance(item, LineCollection)]
    found = {
        tuple(map(tuple, line)): value for line, value in zip(changed.get_segments(), changed.get_array(), strict=True)
    }
    assert found == pytest.approx({ends(wider): 0.4, ends(narrower): -0.8, ends(slightly): 0.01})
    assert changed.get_clim() == pytest.approx((-0.8, 0.8))
    assert sorted(changed.get_linewidths()) == list(changed.get_linewidths()), "in order of the absolute difference"
    red, green, blue, _ = changed.to_rgba(changed.get_array()).T
    assert (np.minimum(np.minimum(red, green), blue) < 0.8).all(), "no color is too light on white"
    assert (red > blue).tolist() == (changed.get_array() > 0).tolist()
    assert len(closed.get_segments()) == len(LATTICE.edges), "dotted lines lie below"
    assert [label.get_text() for label in figure.axes[1].get_yticklabels()] == ["-0.8", "0", "+0.8"]


def test_equal_runs_with_long_names():
    figure = draw({}, {}, names=("first/" + "x" * 200, "道路 $x$" * 30))
    assert_text_fits(figure)
    assert "equal" in [text.get_text() for text in figure.legends[0].get_texts()]
