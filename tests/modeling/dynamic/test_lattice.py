import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dl_lib.modeling.dynamic.lattice import Edge, Lattice, Move, Node
from tests.helpers.published import REFERENCE

PUBLISHED = json.loads((REFERENCE / "models.json").read_text())
L16, L33 = Lattice([2, 3] + [4] * 14), Lattice([2, 3] + [4] * 31)


@st.composite
def lattices(draw):
    counts = [draw(st.integers(1, 2))]
    for grows in draw(st.lists(st.booleans(), max_size=6)):
        counts.append(counts[-1] + grows)
    return Lattice(counts)


@given(lattices())
def test_edges_join_neighbouring_layers_at_most_one_scale_apart(lattice):
    inner = {(edge.source, edge.target) for edge in lattice.edges if edge.target not in lattice.outputs}
    assert inner == {
        (a, b)
        for a, b in itertools.product(lattice.nodes, repeat=2)
        if b.layer == a.layer + 1 and abs(a.scale - b.scale) <= 1
    }
    last = [edge for edge in lattice.edges if edge.target in lattice.outputs]
    assert [(edge.source, edge.move) for edge in last] == [(node, Move.KEEP) for node in lattice.layers[-1]]


@given(lattices())
def test_all_nodes_and_outputs_have_incoming_edges_and_edges_are_ordered_by_node(lattice):
    assert len(set(lattice.edges)) == len(lattice.edges)
    assert {edge.target for edge in lattice.edges} == {*lattice.nodes[1:], *lattice.outputs}
    for node, columns in zip(lattice.nodes, lattice.edge_columns, strict=True):
        assert tuple(lattice.edges[i] for i in columns if i < len(lattice.edges)) == lattice.edges_from(node)


@pytest.mark.parametrize(("lattice", "name"), [(L16, "Seg.Layer16"), (L33, "Seg.Layer33.ImageNet")])
def test_topology_matches_the_published_network(lattice, name):
    published = PUBLISHED[name]
    assert len(lattice.nodes) == published["cells_with_init_layer"]
    assert len(lattice.edges) == published["gates_with_init_layer"]
    assert len(lattice.edges_from(lattice.source)) == published["init_layer_gate_num"]
    gates = [[len(lattice.edges_from(node)) for node in layer] for layer in lattice.layers[1:]]
    assert gates == published["gate_num_per_layer"]
    into = {node: {edge.move for edge in lattice.edges if edge.target == node} for node in lattice.nodes}
    order = (Move.DOWN, Move.KEEP, Move.UP)
    routes = [[[move in into[node] for move in order] for node in layer] for layer in lattice.layers[1:]]
    assert routes == published["routes_up_keep_down_in"]


def test_gates_are_ordered_keep_up_down():
    assert [e.move for e in L16.edges_from(Node(3, 1))] == [Move.KEEP, Move.UP, Move.DOWN]
    assert [str(e) for e in L16.edges_from(Node(0, 0))] == ["layer0_stride4.keep", "layer0_stride4.down"]
    assert Edge(Node(3, 1), Move.UP).target == Node(4, 0)


@pytest.mark.parametrize("counts", [[], [3], [2, 4], [2, 1], [0], [2, 3, 4, 4, 6]])
def test_lattices_with_unreachable_cells_are_rejected(counts):
    with pytest.raises(ValueError, match="Received: cells_per_layer="):
        Lattice(counts)
