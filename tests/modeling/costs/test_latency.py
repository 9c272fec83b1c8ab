"""Latency tables: sums over the parts that run, JSON files, and the network, device and size that they belong to."""

import json
import math

import pytest
import torch

from dl_lib.config import ConfigError, get_cfg
from dl_lib.modeling.costs.latency_file import configured_latency, latency_from_json, latency_to_json
from dl_lib.modeling.dynamic.forced_gates import gates_of
from dl_lib.modeling.dynamic.lattice import Move
from dl_lib.modeling.dynamic.route import Route
from dl_lib.modeling.dynamic.routing import Routing, Unreached
from tests.helpers.latency import latency_table, write_latency
from tests.helpers.tiny_model import TINY, model_of


def config(*overrides):
    cfg = get_cfg()
    cfg.merge_from_list([*TINY, *overrides])
    return cfg


def random_gates(lattice, *, images, seed=0):
    generator = torch.Generator().manual_seed(seed)
    gates = torch.rand(images, len(lattice.edges), generator=generator, dtype=torch.float64)
    return gates * (torch.rand(gates.shape, generator=generator) < torch.rand(images, 1, generator=generator))


def reached_by(lattice, open_edges):
    """Cells that the source reaches over open edges, or along keep from cells without any."""
    reached = {lattice.source}
    for node in lattice.nodes:
        if node in reached:
            edges = [edge for edge in lattice.edges_from(node) if edge in open_edges]
            reached |= {edge.target for edge in edges or lattice.edges_from(node)[:1]}
    return reached


def test_latency_is_the_sum_over_the_parts_that_run():
    table = latency_table(config(), (128, 128))
    lattice, gates = table.lattice, random_gates(table.lattice, images=8)
    for image, row in enumerate(gates):  # gates of unreached cells are 0
        open_edges = {edge for edge, value in zip(lattice.edges, row, strict=True) if value}
        reached = reached_by(lattice, open_edges)
        gates[image] *= torch.tensor([edge.source in reached for edge in lattice.edges])
    routing = Routing.of_gates(Route.whole(lattice, gated=True), gates, unreached=Unreached.SKIP)
    expected = []
    for row in gates:
        open_edges = {edge for edge, value in zip(lattice.edges, row, strict=True) if value}
        reached = reached_by(lattice, open_edges)
        total = (
            table.stem + table.head + table.decisions + sum(table.gates[node] for node in {*lattice.nodes} & reached)
        )
        total += sum(table.operations[node] for node in {edge.source for edge in open_edges})
        expected.append(total + sum(table.transitions[edge] for edge in open_edges))
    assert table.real_complete(routing).tolist() == pytest.approx(expected)
    all_open = Routing.all_open(lattice)
    assert table.real_complete(all_open).item() == pytest.approx(table.dense)
    assert table.expected(all_open).item() == pytest.approx(table.expected_all_open)
    assert table.dense - table.expected_all_open == pytest.approx(table.unconditional + sum(table.gates.values()))


def test_expected_latency_is_differentiable():
    table = latency_table(config(), (128, 128))
    gates = random_gates(table.lattice, images=2).requires_grad_()
    routing = Routing(table.lattice, gates, torch.ones(2, len(table.lattice.nodes), dtype=torch.bool))
    table.expected(routing).sum().backward()
    strongest = gates.detach().unbind(1)
    for column, edge in enumerate(table.lattice.edges):
        siblings = [strongest[table.lattice.edges.index(other)] for other in table.lattice.edges_from(edge.source)]
        is_strongest = torch.stack(siblings).amax(dim=0) == strongest[column]
        is_alone = strongest[column] > 0  # among equal zeros the gradient is shared
        expected = table.transitions[edge] + is_strongest.double() * table.operations[edge.source]
        torch.testing.assert_close(gates.grad[is_alone, column], expected[is_alone])


def partial_route(lattice):
    """Some edges, most with learned gates."""
    edges = [edge for edge in lattice.edges if edge.source.layer != 1 or edge.move is not Move.DOWN]
    return Route.connected(lattice, {edge: None if column % 4 else 0.7 for column, edge in enumerate(edges)})


@pytest.mark.parametrize("policy", ["skip", "run", "published"])
@pytest.mark.parametrize("partial", [False, True])
def test_routing_of_gates_is_that_of_sparse_execution(policy, partial):
    entries = partial_route(model_of().backbone.lattice).entries() if partial else []
    model = model_of("MODEL.GATE.UNREACHED", policy, "MODEL.GATE.GATE_INIT_BIAS", -1.0, "MODEL.BACKBONE.ROUTE", entries)
    backbone = model.eval().backbone
    for gate in gates_of(backbone):
        torch.nn.init.normal_(gate.predict.weight, std=3.0)
    with torch.inference_mode():
        _, routing = backbone(torch.logspace(-3, 2, 6)[:, None, None, None] * torch.randn(6, 3, 64, 64))
    assert len({tuple(row) for row in routing.active_BE.tolist()}) > 1
    found = Routing.of_gates(backbone.route, routing.gates_BE, unreached=Unreached(policy))
    assert torch.equal(found.reached_BN, routing.reached_BN)


def test_json_round_trip():
    table = latency_table(config(), (128, 256))
    text = latency_to_json(table)
    read = latency_from_json(text)
    assert latency_to_json(read) == text
    assert read.conditions == table.conditions and read.complete == table.complete
    assert (read.stem, read.head, read.decisions) == (table.stem, table.head, table.decisions)


DAMAGE = {
    "not JSON": lambda content: "{",
    "deep nesting": lambda content: "[" * 100_000,
    "list": lambda content: [],
    "missing key": lambda content: {key: value for key, value in content.items() if key != "stem"},
    "unknown key": lambda content: {**content, "more": 1},
    "unit": lambda content: {**content, "unit": "s"},
    "negative": lambda content: {**content, "stem": -1.0},
    "NaN": lambda content: {**content, "head": math.nan},
    "bool": lambda content: {**content, "decisions": True},
    "zeros": lambda content: {**content, **{k: dict.fromkeys(content[k], 0) for k in ("operations", "transitions")}},
    "threads": lambda content: {**content, "threads": 0},
    "precision": lambda content: {**content, "precision": ["float32"]},
    "versions": lambda content: {**content, "versions": {"torch": 2}},
    "size": lambda content: {**content, "size": [96]},
    "network": lambda content: {**content, "network": {"MODEL.BACKBONE.NAME": "DynamicNetwork"}},
    "route": lambda content: {**content, "route": {"cells_per_layer": [2, 3], "route": ["layer9_stride4.keep"]}},
    "nested route": lambda content: {**content, "route": {"cells_per_layer": [[[2]]], "route": []}},
    "missing part": lambda content: {**content, "gates": {}},
    "unknown part": lambda content: {**content, "transitions": {**content["transitions"], "layer0_stride4.left": 1.0}},
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_damaged_file_is_a_config_error(tmp_path, damage):
    path = tmp_path / "latency.json"
    damaged = damage(json.loads(latency_to_json(latency_table(config(), (128, 128)))))
    path.write_text(damaged if isinstance(damaged, str) else json.dumps(damaged))
    with pytest.raises(ConfigError, match=r"MODEL\.BUDGET\.LATENCY_TABLE must be a latency table: .*profile-costs"):
        configured_latency(config("MODEL.BUDGET.LATENCY_TABLE", str(path)))


def test_missing_and_oversized_files_are_config_errors(tmp_path):
    huge = tmp_path / "huge.json"
    huge.write_bytes(b" " * (2**22 + 1))
    for path, reason in (
        (tmp_path / "none.json", "No such file"),
        (huge, "larger than the limit"),
        (tmp_path, "Is a "),
    ):
        with pytest.raises(ConfigError, match=rf"LATENCY_TABLE cannot be read: {reason}"):
            configured_latency(config("MODEL.BUDGET.LATENCY_TABLE", str(path)))


MS = [
    *("MODEL.BUDGET.CONSTRAIN", True, "MODEL.BUDGET.CONTROL", "target", "MODEL.BUDGET.TARGET_UNIT", "ms"),
    "MODEL.BUDGET.TARGET",
]


@pytest.mark.parametrize(
    ("device", "size", "overrides", "message"),
    [
        ("GPU X", (128, 128), [], "must be measured on the device of the training run, .* another device, GPU X"),
        (None, (96, 128), [], "must be measured at the size of the padded training crops, 128x128, .* 96x128"),
        (
            None,
            (128, 128),
            ["MODEL.SEM_SEG_HEAD.NUM_CLASSES", 5],
            ".*another network: .*NUM_CLASSES was 19",
        ),
        (
            None,
            (128, 128),
            ["MODEL.CHANNELS_LAST", True],
            ".*network: MODEL.CHANNELS_LAST was 'auto', not 'True'",
        ),
        (None, (128, 128), ["MODEL.BACKBONE.ROUTE", "all_open"], ".*another network: .*MODEL.BACKBONE.ROUTE"),
    ],
)
def test_table_of_other_conditions_is_an_error(tmp_path, device, size, overrides, message):
    path = write_latency(tmp_path, config(), size, device=device)
    with pytest.raises(ConfigError, match=rf"LATENCY_TABLE {message}.*Received: MODEL\.BUDGET\.LATENCY_TABLE="):
        model_of(*MS, 3.0, "MODEL.BUDGET.LATENCY_TABLE", path, *overrides)


@pytest.mark.parametrize("policy", ["skip", "run"])
def test_reachable_range_of_a_target_in_milliseconds(tmp_path, policy):
    """The crop is padded from 120 to 128 pixels."""
    table, path = latency_table(config(), (128, 128)), write_latency(tmp_path, config(), (128, 128))
    options = ["INPUT.CROP_SIZE", [120, 128], "MODEL.BUDGET.LATENCY_TABLE", path, "MODEL.GATE.UNREACHED", policy, *MS]
    budget = model_of(*options, 12.0).budget
    assert budget.lattice_cost == pytest.approx(table.expected_all_open)
    assert budget.reachable == pytest.approx(
        (table.all_closed(Route.whole(table.lattice, gated=True), runs_unreached=policy == "run"), table.dense)
    )
    for target in (0.99 * budget.reachable[0], 1.01 * budget.reachable[1]):
        with pytest.raises(ConfigError, match=r"MODEL\.BUDGET\.TARGET must be from .*TARGET_UNIT=ms"):
            model_of(*options, target)
    with pytest.raises(ConfigError, match=r"LATENCY_TABLE must be set with MODEL\.BUDGET\.TARGET_UNIT=ms"):
        model_of(*MS, 3.0)
