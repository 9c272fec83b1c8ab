"""Routes: text and JSON forms, connections, and errors that name the edge."""

import json
import random

import pytest

from dl_lib.modeling.dynamic.lattice import Edge, Lattice, Move, Node
from dl_lib.modeling.dynamic.route import Route
from tests.helpers.routes import VALUES, random_route

LATTICE = Lattice([2, 3, 3])
CHAIN = [f"layer{layer}_stride4.keep" for layer in range(4)]


@pytest.mark.parametrize("seed", range(20))
def test_text_and_json_give_the_same_route(seed):
    route = random_route(LATTICE, random.Random(seed), values=(*VALUES, 1 / 3, 1e-4), learned=0.3)
    assert Route.parse(LATTICE, route.entries()) == route
    assert Route.from_json(route.to_json()) == route
    assert set(route.edges) == {*route.gates}
    assert [edge for node in route.cells for edge in route.edges_from(node)] == list(route.edges)


@pytest.mark.parametrize("seed", range(20))
def test_reached_cells_are_those_with_a_path_from_the_source(seed):
    route = random_route(LATTICE, random.Random(seed))
    steps = {*route.gates, *(Edge(node, Move.KEEP) for node in route.passes)}
    paths = {LATTICE.source}
    for _ in range(LATTICE.num_layers + 1):
        paths |= {edge.target for edge in steps if edge.source in paths}
    assert route.reached == paths


def test_cell_with_learned_gates_only_may_pass_its_input_on():
    gated = ["layer0_stride4.down=gate", "layer1_stride8.up", "layer2_stride4.keep", "layer3_stride4.keep"]
    route = Route.parse(LATTICE, [*gated, "layer1_stride4.keep"])
    assert not route.is_fixed
    assert Node(1, 0) in route.reached
    assert route.gates_of(Node(0, 0)) == (None,)
    with pytest.raises(ValueError, match=r"layer0_stride4\.keep leads to no output: layer1_stride4 has no open edge"):
        Route.parse(LATTICE, gated)


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([], "an edge of the source cell. Received: edges=0, passes=0"),
        ([*CHAIN, "layer1_stride8.keep"], "layer1_stride8.keep is disconnected: no open edge leads to layer1_stride8"),
        ([*CHAIN, "layer1_stride8.pass"], "layer1_stride8.pass is disconnected"),
        (CHAIN[:2], "layer1_stride4.keep leads to no output: layer2_stride4 has no open edge"),
        ([*CHAIN[:1], "layer1_stride4.pass"], "layer1_stride4.keep leads to no output"),
        ([*CHAIN, "layer1_stride4.pass"], "layer1_stride4.pass must not be combined with edges of the cell"),
        ([*CHAIN, "layer3_stride4.kep"], "nearest: layer3_stride4.keep.* Received: layer3_stride4.kep"),
        ([*CHAIN, "layer4_stride4.keep"], "must contain edges of the lattice"),
        ([*CHAIN, "layer9_stride4.pass"], "must contain edges of the lattice"),
        ([*CHAIN, CHAIN[1]], "must not contain an entry twice. Received: layer1_stride4.keep"),
        ([*CHAIN[:-1], f"{CHAIN[-1]}=0"], "from 0.0001 to 1. Received: layer3_stride4.keep=0.0"),
        ([*CHAIN[:-1], f"{CHAIN[-1]}=1.5"], "from 0.0001 to 1. Received: layer3_stride4.keep=1.5"),
        ([*CHAIN[:-1], f"{CHAIN[-1]}=nan"], "from 0.0001 to 1. Received: layer3_stride4.keep=nan"),
        ([*CHAIN[:-1], f"{CHAIN[-1]}=on"], "must be a number or gate. Received: layer3_stride4.keep=on"),
        ([*CHAIN[:-1], f"{CHAIN[-1]}="], "must be a number or gate"),
    ],
)
def test_invalid_routes_are_errors_that_name_the_edge(entries, message):
    with pytest.raises(ValueError, match=message):
        Route.parse(LATTICE, entries)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "must contain JSON"),
        ("[" * 100_000, "must contain JSON"),
        ("[]", "an object with the keys cells_per_layer and route"),
        (json.dumps({"cells_per_layer": [2], "route": [], "more": 1}), "an object with the keys"),
        (json.dumps({"cells_per_layer": [2] * 257, "route": []}), "up to 256 numbers from 1 to 8"),
        (json.dumps({"cells_per_layer": [9], "route": []}), "up to 256 numbers from 1 to 8"),
        (json.dumps({"cells_per_layer": [True], "route": []}), "up to 256 numbers from 1 to 8"),
        (json.dumps({"cells_per_layer": [3], "route": []}), "layer 1 must have 1 or 2 cells"),
        (json.dumps({"cells_per_layer": [2], "route": [1]}), "a list of up to 10000 texts"),
        (json.dumps({"cells_per_layer": [2], "route": ["x"] * 10_001}), "a list of up to 10000 texts"),
    ],
)
def test_invalid_files_are_errors(content, message):
    with pytest.raises(ValueError, match=message):
        Route.from_json(content)


def test_whole_route_has_every_edge():
    assert Route.whole(LATTICE, gated=False).entries() == [str(edge) for edge in LATTICE.edges]
    assert not Route.whole(LATTICE, gated=True).is_fixed
    assert Route.whole(LATTICE, gated=True).cells == LATTICE.nodes


@pytest.mark.parametrize("seed", range(5))
def test_connected_edges_of_a_route_are_the_route(seed):
    route = random_route(LATTICE, random.Random(seed), learned=0.3)
    assert Route.connected(LATTICE, route.gates) == route
    assert hash(Route.connected(LATTICE, route.gates)) == hash(route)
    disconnected = {edge: 1.0 for edge in LATTICE.edges if edge.source not in route.reached}
    assert Route.connected(LATTICE, {**route.gates, **disconnected}) == route
