"""Routes derived from the gates of images, and networks that hold only these routes."""

import random

import pytest
import torch

from dl_lib.inference.freezing import frequent_route, route_state_dict, specialized_route, with_fixed_values
from dl_lib.modeling.dynamic.lattice import Edge, Lattice, Move, Node
from dl_lib.modeling.dynamic.route import Route
from tests.helpers.routes import VALUES, random_route, randomize_norms
from tests.helpers.tiny_model import model_of, random_image

LATTICE = Lattice([2, 2])
SIDES = (64, 96)


def gates_of(rows):
    """Return gate values (N, E) from the open edges of each image, by name."""
    return torch.tensor([[row.get(str(edge), 0.0) for edge in LATTICE.edges] for row in rows])


def test_frequent_edges_are_open_for_more_than_the_ratio():
    down, up = {"layer0_stride4.down": 0.5, "layer1_stride8.up": 0.8}, {"layer0_stride4.keep": 0.25}
    gates_NE = gates_of([down, down, down | up, up])
    most = frequent_route(LATTICE, gates_NE, keep=0.5, values="mean")
    assert most.entries() == ["layer0_stride4.down=0.375", "layer1_stride8.up=0.6", "layer2_stride4.pass"]
    some = frequent_route(LATTICE, gates_NE, keep=0.25, values="one")
    assert some.entries() == [
        *("layer0_stride4.keep", "layer0_stride4.down", "layer1_stride4.pass", "layer1_stride8.up"),
        "layer2_stride4.pass",
    ]
    assert frequent_route(LATTICE, gates_NE, keep=0.75, values="one").entries() == [
        f"layer{layer}_stride4.pass" for layer in range(3)
    ]


def test_edges_of_cells_that_are_not_reached_are_omitted():
    gates_NE = gates_of([{"layer0_stride4.keep": 1.0, "layer1_stride8.keep": 1.0}])
    route = frequent_route(LATTICE, gates_NE, keep=0.5, values="one")
    assert [*route.gates] == [Edge(Node(0, 0), Move.KEEP)]


def test_given_edges_get_the_mean_gates_unless_they_have_values():
    edges = ["layer0_stride4.keep", "layer0_stride4.down=gate", "layer1_stride4.keep=0.5", "layer1_stride8.pass"]
    given = Route.parse(LATTICE, [*edges, "layer2_stride4.keep", "layer2_stride8.keep"])
    always = {"layer0_stride4.keep": 0.4, "layer2_stride4.keep": 0.5, "layer2_stride8.keep": 1.0}
    gates_NE = gates_of([always | {"layer0_stride4.keep": 0.8, "layer0_stride4.down": 0.4}, always])
    mean = with_fixed_values(given, gates_NE).entries()
    assert mean[:4] == ["layer0_stride4.keep=0.6", "layer0_stride4.down=0.2", *edges[2:]]
    assert mean[4:] == ["layer2_stride4.keep=0.5", "layer2_stride8.keep"]
    with pytest.raises(ValueError, match=r"layer2_stride8\.keep over the images is below 0\.0001.*--gates one"):
        with_fixed_values(given, gates_of([dict.fromkeys(list(always)[:2], 1.0) | {"layer0_stride4.down": 1.0}]))
    one = with_fixed_values(given, None).entries()
    assert one == [edges[0], "layer0_stride4.down", *edges[2:], "layer2_stride4.keep", "layer2_stride8.keep"]


def trained(kind, unreached, *, seed):
    """Return a model with gates that differ between images, its images, and their outputs."""
    model = model_of("MODEL.GATE.KIND", kind, "MODEL.GATE.UNREACHED", unreached).double().eval()
    randomize_norms(model)
    torch.manual_seed(seed)
    for node in model.backbone.route.cells:
        predict = model.backbone.cell(node).gate.predict
        torch.nn.init.normal_(predict.weight, std=10.0)
        torch.nn.init.normal_(predict.bias, std=4.0)
    scales = torch.linspace(0.05, 1, 5)
    images = [random_image(*SIDES) for _ in scales]
    images = [{"image": (scale * image["image"]).to(torch.uint8)} for scale, image in zip(scales, images, strict=True)]
    with torch.no_grad():
        return model, images, model(images)


@pytest.mark.parametrize("kind", ["soft", "hard", "sigmoid", "softmax"])
@pytest.mark.parametrize("unreached", ["skip", "published"])
@pytest.mark.parametrize("seed", range(3))
def test_specialized_network_equals_the_original_on_its_images(kind, unreached, seed):
    model, images, outputs = trained(kind, unreached, seed=seed)
    gates_NE = torch.stack([output["gates"] for output in outputs])
    route = specialized_route(model.backbone, gates_NE)
    overrides = ("MODEL.GATE.KIND", kind, "MODEL.GATE.UNREACHED", unreached, "MODEL.BACKBONE.ROUTE", route.entries())
    special = model_of(*overrides).double().eval()
    special.load_state_dict(route_state_dict(model, route))
    with torch.no_grad():
        found = special(images)
    for expected, output in zip(outputs, found, strict=True):
        torch.testing.assert_close(output["sem_seg"], expected["sem_seg"], rtol=1e-5, atol=1e-5)
        assert output["flops"]["executed_flops"] <= expected["flops"]["executed_flops"]
    ever_open = {edge for edge, gates_N in zip(route.lattice.edges, gates_NE.T, strict=True) if gates_N.any()}
    assert ever_open <= {*route.gates}
    if unreached == "skip" and kind != "softmax":  # softmax gates of a cell stay together
        assert ever_open == {*route.gates}
    if kind == "hard":  # open for all images that reach the cell, or learned
        assert {*route.gates.values()} <= {1.0, None}


def test_specialization_fixes_gates_that_do_not_vary():
    model, _, _ = trained("soft", "skip", seed=0)
    lattice = model.backbone.lattice
    gates_NE = torch.zeros(3, len(lattice.edges))
    for edge, values in {
        Edge(Node(0, 0), Move.KEEP): (0.5, 0.5, 0.5),
        Edge(Node(0, 0), Move.DOWN): (0.5, 0.0, 0.7),
        Edge(Node(1, 1), Move.KEEP): (0.25, 0.0, 0.25),  # of the images that reach the cell, all
        Edge(Node(2, 1), Move.UP): (0.3, 0.0, 0.0),
        Edge(Node(2, 1), Move.DOWN): (3e-5, 0.0, 3e-5),  # too small for a fixed value
    }.items():
        gates_NE[:, lattice.edges.index(edge)] = torch.tensor(values)
    route = specialized_route(model.backbone, gates_NE)
    shown = [entry for entry in route.entries() if not entry.endswith("pass")]
    assert shown == [
        *("layer0_stride4.keep=0.5", "layer0_stride4.down=gate", "layer1_stride8.keep=0.25"),
        *("layer2_stride8.up=gate", "layer2_stride8.down=gate"),
    ]


def test_networks_without_a_specialized_route_are_refused():
    fixed = model_of("MODEL.GATE.GATE_ON", False)
    with pytest.raises(ValueError, match="must have learned gates"):
        specialized_route(fixed.backbone, torch.ones(1, len(fixed.backbone.lattice.edges)))
    runs = model_of("MODEL.GATE.UNREACHED", "run")
    with pytest.raises(ValueError, match=r"MODEL\.GATE\.UNREACHED must be skip or published"):
        specialized_route(runs.backbone, torch.ones(1, len(runs.backbone.lattice.edges)))


def test_missing_parts_are_named():
    lattice = model_of().backbone.lattice
    chain = [f"layer{layer}_stride4.keep" for layer in range(5)]
    model = model_of("MODEL.BACKBONE.ROUTE", chain)
    with pytest.raises(ValueError, match="the model has no edge layer0_stride4"):
        route_state_dict(model, Route.whole(lattice, gated=False))
    with pytest.raises(ValueError, match=r"no learned gate for layer4_stride4\.keep"):
        route_state_dict(model, Route.parse(lattice, [*chain[:-1], "layer4_stride4.keep=gate"]))
    softmax = model_of("MODEL.GATE.KIND", "softmax")
    with pytest.raises(ValueError, match="the softmax gates of layer0_stride4 depend on each other"):
        route_state_dict(softmax, Route.parse(lattice, ["layer0_stride4.keep=gate", *chain[1:]]))


@pytest.mark.parametrize("seed", range(3))
def test_weights_of_a_route_are_those_that_its_network_loads(seed):
    model = model_of()
    route = random_route(model.backbone.lattice, random.Random(seed), values=VALUES, learned=0.5)
    restricted = model_of("MODEL.BACKBONE.ROUTE", route.entries())
    restricted.load_state_dict(route_state_dict(model, route))
    whole = model.state_dict()
    for key, value in restricted.state_dict().items():
        if ".gate.predict." in key:
            node = next(node for node in route.cells if f".{node}." in key)
            edges = model.backbone.lattice.edges_from(node)
            rows = [row for row, edge in enumerate(edges) if edge in route.gates and route.gates[edge] is None]
            assert torch.equal(value, whole[key][rows])
        else:
            assert torch.equal(value, whole[key])
