"""Named routes: shapes in closed form, for lattices of several depths, networks, and lattices that are too small."""

import pytest
import torch

from dl_lib.config import ConfigError, get_cfg
from dl_lib.modeling import build_model
from dl_lib.modeling.dynamic.lattice import Edge, Lattice, Move, Node
from dl_lib.modeling.dynamic.named_routes import NAMED_ROUTES
from dl_lib.modeling.dynamic.route import Route

DEPTHS = {
    "L3": [2, 3, 4],
    "L6": [2, 3, 4, 4, 4, 4],
    "L16": [2, 3, *[4] * 14],
    "L33": [2, 3, *[4] * 31],
    "late scales": [1, 1, 1, 1, 2, 2, 3, 3, 3, 3],
}
LAYER16 = Lattice(DEPTHS["L16"])


def outputs_of(route):
    return [node.stride for node in route.lattice.outputs if node in route.reached]


@pytest.mark.parametrize("cells", DEPTHS.values(), ids=DEPTHS.keys())
@pytest.mark.parametrize("name", NAMED_ROUTES)
def test_every_route_is_valid_at_every_depth(name, cells):
    lattice = Lattice(cells)
    if name == "unet" and len(cells) == 3:
        with pytest.raises(ValueError, match=r"unet requires at least 6 layers.* Received: CELL_NUM_LIST=\[2, 3, 4\]"):
            NAMED_ROUTES[name].build(lattice)
        return
    route = NAMED_ROUTES[name].build(lattice)
    assert route.lattice == lattice and route.is_fixed and not route.passes and {*route.gates.values()} == {1.0}
    assert Route.parse(lattice, route.entries()) == route
    stride = {"single_path": [4], "unet": [4], "fcn": [lattice.max_stride], "deeplab": [16]}
    assert outputs_of(route) == stride.get(name, [node.stride for node in lattice.outputs])
    if name in ("single_path", "fcn", "deeplab"):
        assert all(len(route.edges_from(node)) == 1 for node in route.cells), "a single path"
        assert len(route.edges) == len(cells) + 1


@pytest.mark.parametrize(
    ("name", "cells", "message"),
    [
        *((name, [1, 1], rf"{name} requires at least 2 scales \(stride 8\)") for name in ("fcn", "unet", "hrnet")),
        ("deeplab", [1, 2, 2], r"deeplab requires at least 3 scales \(stride 16\)"),
        ("unet", [1, 1, 1, 1, 2], "unet requires at least 6 layers, to go down to stride 8"),
    ],
)
def test_a_lattice_that_is_too_small_is_an_error(name, cells, message):
    with pytest.raises(ValueError, match=message):
        NAMED_ROUTES[name].build(Lattice(cells))


def cells_per_stride(name):
    route = NAMED_ROUTES[name].build(LAYER16)
    return [sum(node.scale == scale for node in route.cells) for scale in range(4)]


def test_stages_have_equal_lengths():
    assert cells_per_stride("single_path") == [17, 0, 0, 0]
    assert cells_per_stride("fcn") == [4, 4, 4, 5]
    assert cells_per_stride("deeplab") == [4, 4, 9, 0]
    assert cells_per_stride("unet") == [17, 13, 9, 3]
    assert cells_per_stride("hrnet") == [17, 13, 9, 5]


@pytest.mark.parametrize("cells", [DEPTHS["L6"], DEPTHS["L16"], DEPTHS["L33"]])
def test_a_unet_is_symmetric_and_has_a_skip_connection_at_every_scale(cells):
    route, last = NAMED_ROUTES["unet"].build(Lattice(cells)), len(cells)
    inner = {edge for edge in route.edges if edge.source.layer < last}
    opposite = {Move.KEEP: Move.KEEP, Move.UP: Move.DOWN, Move.DOWN: Move.UP}
    mirrored = {Edge(Node(last - e.target.layer, e.target.scale), opposite[e.move]) for e in inner}
    assert inner == mirrored
    steps = {move: [edge.source.layer for edge in route.edges if edge.move is move] for move in Move}
    assert len(steps[Move.DOWN]) == len(steps[Move.UP]) == 3 and max(steps[Move.DOWN]) < min(steps[Move.UP])
    # A path, and one chain of keep edges from each step down to the step up at the same scale.
    skips = sum(up - down for down, up in zip(steps[Move.DOWN], reversed(steps[Move.UP]), strict=True))
    assert len(route.edges) == last + 1 + skips + 3


@pytest.mark.parametrize("cells", DEPTHS.values(), ids=DEPTHS.keys())
def test_an_hrnet_keeps_every_branch_and_exchanges_features_between_neighbours(cells):
    route = NAMED_ROUTES["hrnet"].build(Lattice(cells))
    layers, scales = len(cells), cells[-1]
    starts = [min(node.layer for node in route.cells if node.scale == scale) for scale in range(scales)]
    keeps = [edge for edge in route.edges if edge.move is Move.KEEP]
    assert len(keeps) == sum(layers + 1 - start for start in starts), "branches never end"
    ends = {start - 1 for start in starts[1:]} | {layers - 1}
    exchanges = {edge for edge in route.edges if edge.move is not Move.KEEP}
    assert exchanges == {
        edge
        for edge in route.lattice.edges
        if edge.move is not Move.KEEP and edge.source.layer in ends and edge.source in route.cells
        if edge.target in route.cells
    }
    if len(cells) >= 16:
        assert len(exchanges) == scales**2 - 1


def network_of(route):
    cfg = get_cfg()
    cells = ["MODEL.BACKBONE.LAYER_NUM", 6, "MODEL.BACKBONE.CELL_NUM_LIST", DEPTHS["L6"]]
    cfg.merge_from_list(
        [*cells, "MODEL.BACKBONE.INIT_CHANNEL", 4, "MODEL.BACKBONE.ROUTE", route, "MODEL.DEVICE", "cpu"]
    )
    return build_model(cfg).eval()


@pytest.mark.parametrize("name", NAMED_ROUTES)
def test_the_network_of_a_route_holds_and_executes_its_parts(name):
    model = network_of(name)
    route = NAMED_ROUTES[name].build(model.backbone.lattice)
    assert model.backbone.route == route and not model.backbone.has_gates
    assert list(model.backbone.cells) == [str(node) for node in route.cells]
    images = torch.randn(2, 3, 64, 96)
    with torch.inference_mode():
        features, _ = model.backbone(images)
        output = model.run(images, step_rate=0.0)
    reached = {node.stride for node in route.lattice.outputs if node in route.reached}
    assert {
        stride for stride, feature in zip((4, 8, 16, 32), features.values(), strict=True) if feature.any()
    } == reached
    assert output.logits.isfinite().all()
    table = model.costs.table(64, 96)
    operations, transitions = sum(table.operations.values()), sum(table.transitions.values())
    assert output.costs.executed.tolist() == [table.stem + table.head + operations + transitions] * 2


def test_an_unknown_name_is_an_error_with_similar_names():
    with pytest.raises(ConfigError, match=r"MODEL\.BACKBONE\.ROUTE.*nearest: unet.*Received: .*'u-net'"):
        network_of("u-net")
