"""Routing figures: placement and color of edges and cells, labels of large lattices."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.collections import LineCollection, PathCollection

from dl_lib.modeling.dynamic.lattice import Lattice, Node
from dl_lib.modeling.dynamic.route import Route
from dl_lib.visualization.figure import RAMP
from dl_lib.visualization.routing import draw_route, draw_routing
from tests.helpers.figures import assert_text_fits

LATTICE = Lattice([2, 3, 4, 4])
WHITE = (1, 1, 1, 1)


def parts(figure):
    """Return the lines of closed, constant and image-dependent edges, the cells and the outputs of a routing figure."""
    axes = figure.axes[0]
    lines = [item for item in axes.collections if isinstance(item, LineCollection)]
    cells, outputs = (item for item in axes.collections if isinstance(item, PathCollection))
    return *lines, cells, outputs


def ends_of(lines):
    return [tuple(map(tuple, segment)) for segment in lines.get_segments()]


def gates_of(values, lattice=LATTICE):
    return [values.get(edge, 0.0) for edge in lattice.edges]


def position(node):
    return node.layer, node.scale


def ends(edge):
    return position(edge.source), position(edge.target)


@settings(max_examples=10, deadline=None)
@given(st.dictionaries(st.sampled_from(LATTICE.edges), st.floats(0.01, 1)))
def test_open_edges_have_their_gate_as_color_and_width_and_closed_ones_are_dotted(values):
    closed, lines, dependent, _, _ = parts(draw_routing(LATTICE, gates=gates_of(values)))
    gates, widths = (lines.get_array(), lines.get_linewidths()) if values else ([], [])
    assert dict(zip(ends_of(lines), gates, strict=True)) == {ends(edge): gate for edge, gate in values.items()}
    by_gate = [width for _, width in sorted(zip(gates, widths, strict=True))]
    assert by_gate == sorted(by_gate)
    assert lines.get_clim() == (0, 1) and lines.get_cmap().name == RAMP.name
    assert set(ends_of(closed)) == {ends(edge) for edge in LATTICE.edges if edge not in values}
    assert ends_of(dependent) == []


def test_image_dependent_edges_differ_in_color_and_line_style():
    ratios = dict(zip(LATTICE.edges[:6], (1.0, 0.99, 0.5, 0.01, 0.0, 1.0), strict=True))
    figure = draw_routing(LATTICE, gates=gates_of(ratios), open_ratios=gates_of(ratios))
    closed, constant, dependent, _, _ = parts(figure)
    assert set(ends_of(dependent)) == {ends(edge) for edge in LATTICE.edges[1:4]}
    assert set(ends_of(constant)) == {ends(edge) for edge in (LATTICE.edges[0], LATTICE.edges[5])}
    assert len(ends_of(closed)) == len(LATTICE.edges) - 5
    styles = {str(lines.get_linestyle()) for lines in (closed, constant, dependent)}
    assert len(styles) == 3 and "None" in str(constant.get_linestyle())  # solid
    assert not any(np.allclose(dependent.get_colors()[0], RAMP(gate), atol=0.2) for gate in np.linspace(0, 1, 11))
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert "edge that depends on the image" in labels and "edge closed for every image" in labels


def test_a_route_is_drawn_with_the_inputs_that_cells_pass_on():
    entries = ["layer0_stride4.keep=0.5", "layer0_stride4.down", "layer1_stride8.up", "layer1_stride4.pass"]
    route = Route.parse(
        LATTICE, [*entries, *(f"layer{layer}_stride4.pass" for layer in range(2, LATTICE.num_layers + 1))]
    )
    figure = draw_route(route)
    _, opened, _, passed, _, _ = parts(figure)
    assert set(ends_of(opened)) == {ends(edge) for edge in route.edges}
    assert set(ends_of(passed)) == {((node.layer, 0), (node.layer + 1, 0)) for node in route.passes}
    assert_text_fits(figure)


def test_a_cell_has_the_color_of_its_largest_outgoing_gate():
    node = Node(2, 1)
    values = dict(zip(LATTICE.edges_from(node), (0.2, 0.8, 0.5), strict=True))
    *_, cells, outputs = parts(draw_routing(LATTICE, gates=gates_of(values)))
    assert [tuple(offset) for offset in cells.get_offsets()] == [position(place) for place in LATTICE.nodes]
    for place, color in zip(LATTICE.nodes, cells.get_facecolors(), strict=True):
        assert tuple(color) == pytest.approx(RAMP(0.8) if place == node else WHITE)
    assert (outputs.get_facecolors() == WHITE).all()


def test_an_output_has_the_color_of_its_incoming_gate():
    keep = next(edge for edge in LATTICE.edges if edge.target == LATTICE.outputs[2])
    *_, outputs = parts(draw_routing(LATTICE, gates=gates_of({keep: 0.6})))
    expected = np.array([WHITE, WHITE, RAMP(0.6), WHITE])
    np.testing.assert_allclose(outputs.get_facecolors(), expected)
    assert [tuple(offset) for offset in outputs.get_offsets()] == [(5, scale) for scale in range(4)]


def test_layers_run_to_the_right_and_scales_downwards():
    axes = draw_routing(LATTICE, gates=[1.0] * len(LATTICE.edges), title="Mean routing").axes[0]
    assert not axes.xaxis.get_inverted() and axes.yaxis.get_inverted()
    assert [label.get_text() for label in axes.get_xticklabels()] == ["0", "1", "2", "3", "4", "out"]
    assert [label.get_text() for label in axes.get_yticklabels()] == [f"stride {4 * 2**scale}" for scale in range(4)]


@pytest.mark.parametrize("cells", [[1], [2], [2, 3, 4, 4], [2, 3] + [4] * 14, [2, 3] + [4] * 31, [2, 3, 4, 5, 6, 7]])
def test_text_does_not_overlap(cells):
    lattice = Lattice(cells)
    title = "Mean routing on a_data_set_with_a_long_name 道路 $x$ " * 3
    figure = draw_routing(
        lattice, gates=[1.0] * len(lattice.edges), open_ratios=[0.5] * len(lattice.edges), title=title
    )
    assert_text_fits(figure)
    assert figure.get_figwidth() <= 9.6, "must be legible at the width of a README"


def test_gates_must_fit_the_lattice():
    with pytest.raises(ValueError, match=rf"gates .* \({len(LATTICE.edges)}\). Received: len\(gates\)=1$"):
        draw_routing(LATTICE, gates=[0.5])
    invalid = [0.5] * len(LATTICE.edges)
    invalid[0] = float("nan")
    invalid[2] = 1.5
    with pytest.raises(
        ValueError, match=r"Received: gates=\{'layer0_stride4.keep': nan, 'layer1_stride4.keep': 1.5\}$"
    ):
        draw_routing(LATTICE, gates=invalid)
    with pytest.raises(ValueError, match=r"^open_ratios must have one value"):
        draw_routing(LATTICE, gates=[0.5] * len(LATTICE.edges), open_ratios=[0.5])
