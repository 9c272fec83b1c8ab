"""What the pixels of a route say about its gates."""

from itertools import pairwise

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dl_lib.evaluation.report.canvas import encode_png, ramp_color
from dl_lib.evaluation.report.route_picture import draw_route, node_center
from dl_lib.modeling.dynamic.lattice import Lattice, Move, Node

LATTICE = Lattice([2, 3, 4, 4])
WHITE = (255, 255, 255)


def open_edges(gate, edges, lattice=LATTICE):
    return [gate if edge in edges else 0.0 for edge in lattice.edges]


def pixels_along(picture, edge, *, start=0.3, stop=0.4):
    """Pixels on a piece of the edge where it crosses no other, (n, 3)."""
    (x0, y0), (x1, y1) = node_center(edge.source), node_center(edge.target)
    shares = np.linspace(start, stop, 4)
    return np.array([picture[round(y0 + t * (y1 - y0)), round(x0 + t * (x1 - x0))] for t in shares])


def luminance(color):
    return 0.299 * color[0] + 0.587 * color[1] + 0.114 * color[2]


@settings(max_examples=12, deadline=None)
@given(st.sets(st.sampled_from(LATTICE.edges)))
def test_open_edges_have_the_colour_of_their_gate_and_closed_ones_leave_no_ink(chosen):
    picture = draw_route(LATTICE, gates=open_edges(0.9, chosen))
    for edge in LATTICE.edges:
        expected = ramp_color(0.9) if edge in chosen else WHITE
        assert np.abs(pixels_along(picture, edge).astype(int) - expected).max() <= 2, edge


def test_a_closed_lattice_has_no_colour_between_its_cells():
    picture = draw_route(LATTICE, gates=[0.0] * len(LATTICE.edges))
    for edge in LATTICE.edges:
        assert (pixels_along(picture, edge, start=0.3, stop=0.7) == 255).all()


@given(st.floats(0, 1), st.floats(0, 1))
def test_colours_darken_as_gates_open(one, other):
    lower, higher = sorted((one, other))
    assert luminance(ramp_color(lower)) >= luminance(ramp_color(higher)) - 0.5
    if higher - lower > 0.05:
        assert luminance(ramp_color(lower)) > luminance(ramp_color(higher)) + 2


def test_edges_grow_thicker_as_gates_open():
    edge = next(edge for edge in LATTICE.edges if edge.source.layer == 3 and edge.move is Move.KEEP)
    (x0, y0), (x1, _) = node_center(edge.source), node_center(edge.target)
    inked = []
    for gate in (0.0, 0.1, 0.4, 0.7, 1.0):
        picture = draw_route(LATTICE, gates=open_edges(gate, [edge]))
        column = picture[round(y0) - 10 : round(y0) + 11, round((x0 + x1) / 2)].astype(int)
        inked.append((255 - column).sum() / max(1, sum(255 - channel for channel in ramp_color(gate))))
    assert inked[0] == 0
    assert all(thin + 0.8 < thick for thin, thick in pairwise(inked))


def test_a_cell_has_the_colour_of_its_most_open_way_out():
    node = Node(2, 1)
    ways = dict(zip(LATTICE.edges_from(node), (0.2, 0.8, 0.5), strict=True))
    picture = draw_route(LATTICE, gates=[ways.get(edge, 0.0) for edge in LATTICE.edges])
    for place in LATTICE.nodes:
        x, y = map(round, node_center(place))
        assert tuple(picture[y, x]) == (ramp_color(0.8) if place == node else WHITE)


def test_an_output_has_the_colour_of_what_it_gets():
    keep = next(edge for edge in LATTICE.edges if edge.target == LATTICE.outputs[2])
    picture = draw_route(LATTICE, gates=open_edges(0.6, [keep]))
    colours = [tuple(picture[round(y), round(x)]) for x, y in map(node_center, LATTICE.outputs)]
    assert colours == [WHITE, WHITE, ramp_color(0.6), WHITE]


@pytest.mark.parametrize("cells", [[1], [2], [2, 3, 4, 4], [2, 3] + [4] * 31])
def test_everything_fits_with_a_white_margin(cells):
    lattice = Lattice(cells)
    picture = draw_route(lattice, gates=[1.0] * len(lattice.edges), title="Mean route on digit_scenes_val")
    assert picture.dtype == np.uint8 and picture.ndim == 3
    margins = (picture[:8], picture[-8:], picture[:, :8], picture[:, -8:])
    assert all((margin == 255).all() for margin in margins)


def test_the_title_changes_nothing_below_it():
    gates = [0.5] * len(LATTICE.edges)
    plain, titled = draw_route(LATTICE, gates=gates), draw_route(LATTICE, gates=gates, title="Mean route")
    top = round(node_center(Node(0, 0))[1]) - 32
    assert (plain[top:] == titled[top:]).all() and (plain[:top] != titled[:top]).any()


def test_a_png_keeps_every_pixel():
    picture = draw_route(LATTICE, gates=np.linspace(0, 1, len(LATTICE.edges)).tolist())
    read = cv2.imdecode(np.frombuffer(encode_png(picture), np.uint8), cv2.IMREAD_COLOR)
    assert (cv2.cvtColor(read, cv2.COLOR_BGR2RGB) == picture).all()


def test_gates_have_to_fit_the_lattice():
    with pytest.raises(ValueError, match=rf"{len(LATTICE.edges)} edges.*Received: len\(gates\)=1$"):
        draw_route(LATTICE, gates=[0.5])
    wrong = [0.5] * len(LATTICE.edges)
    wrong[0] = float("nan")
    wrong[2] = 1.5
    with pytest.raises(
        ValueError, match=r"Received: gates=\{'layer0_stride4.keep': nan, 'layer1_stride4.keep': 1.5\}$"
    ):
        draw_route(LATTICE, gates=wrong)
