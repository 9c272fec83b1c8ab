"""Speed benchmark: tables of a whole run on small networks, and the cases that they compare."""

import json

import pytest
import speed
import speed_prediction
import speed_roofline
import speed_routes
import speed_training
import torch
from harness import Memory, Settings
from machine_rates import MachineRates
from networks import NETWORKS, build_network, default_config, open_network, predict, random_image
from speed_roofline import SUMS, PartTimer, predict_in_parts, work_of
from speed_training import BaselineTrainingCase
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from training_steps import TrainingCase
from work_counter import WorkCounter

from dl_lib.inference import optimization, optimize
from dl_lib.inference.conv_chain import ConvChain
from dl_lib.modeling.dynamic.forced_gates import force_gates
from tests.helpers.published import SETTINGS

TINY = tuple(str(word) for word in SETTINGS["tiny"])
THREE_LAYERS = (
    *("MODEL.BACKBONE.LAYER_NUM=3", "MODEL.BACKBONE.CELL_NUM_LIST=[2,3,3]", "MODEL.BACKBONE.MAX_STRIDE=16"),
    *("MODEL.SEM_SEG_HEAD.IN_FEATURES=[layer_0,layer_1,layer_2]", "MODEL.BACKBONE.INIT_CHANNEL=16"),
)


@pytest.fixture
def small_sizes(monkeypatch):
    """Small networks and sizes, no compilation, and memory without a subprocess, which the harness tests cover."""
    monkeypatch.setattr(torch, "compile", lambda function: function)
    for module in (speed_prediction, optimization):
        monkeypatch.setattr(module, "has_bfloat16", lambda device: True)
    for module in (speed_prediction, speed_training):
        monkeypatch.setattr(module, "measure_memory", lambda case, settings: case.prepare(settings) and Memory(3, 1))
    monkeypatch.setitem(NETWORKS, "quickstart", NETWORKS["default network"])
    monkeypatch.setattr(speed_prediction, "SMALL", (32, 32))
    monkeypatch.setattr(MachineRates, "measure", lambda settings: MachineRates(matmul=50.0, convolution=80.0, copy=4.0))
    monkeypatch.setattr(speed_roofline, "LARGE", (64, 128))
    monkeypatch.setattr(speed_roofline, "SMALL", (32, 32))
    monkeypatch.setattr(speed_roofline, "CALLS", 1)
    monkeypatch.setattr(speed_prediction, "LARGE", (64, 128))
    monkeypatch.setattr(speed_prediction, "CALLS_PER_ROUND", 1)
    monkeypatch.setattr(speed_routes, "LARGE", (64, 128))
    monkeypatch.setattr(speed_routes, "COST_SIZE", (32, 32))
    monkeypatch.setattr(speed_routes, "NUM_ROUTES", 3)
    monkeypatch.setattr(speed_routes, "MAX_SEEDS", 50)
    monkeypatch.setattr(speed_routes, "BATCH_SIZE", 3)
    monkeypatch.setattr(speed_routes, "BATCH_SIDES", dict.fromkeys(NETWORKS, (64, 64)))
    monkeypatch.setattr(speed_training, "STEPS", ((2, 64),))
    monkeypatch.setattr(speed, "start", lambda arguments: Settings(opts=THREE_LAYERS))


def test_all_tables_of_a_run(tmp_path, small_sizes):
    speed.main(["--output", str(tmp_path), "--repeats", "1"])
    values = json.loads((tmp_path / "speed.json").read_text())
    large, routes, batch, small, steps, roofline, calls = values["tables"].values()
    networks = ["baseline", "dl_lib", "dl_lib, bf16", "dl_lib, compiled", "dl_lib, compiled, bf16"]
    assert [(row["network"], row["memory MiB"]) for row in large] == [(name, 2) for name in networks]
    assert large[1]["speedup"] == large[0]["seconds"] / large[1]["seconds"]
    ratios = [row["cost ratio"] for row in routes]
    assert ratios == sorted(ratios) and all(0.3 <= ratio <= 0.9 for ratio in ratios) and len(ratios) == 3
    assert [(row["network"], row["routes"]) for row in batch] == [("default network", 3), ("quickstart", 3)]
    assert [(row["network"], row["batch size"]) for row in small] == [(n, size) for size in (1, 16) for n in networks]
    assert [(row["images"], row["network"]) for row in steps] == [
        ("2x64x64", name) for name in ("baseline", "dl_lib", "checkpointed")
    ]
    *parts, total = roofline
    for column in ("GMAC", "MiB", "bound ms", "ms"):
        assert total[column] == pytest.approx(sum(row[column] for row in parts))
    assert [row["part"] for row in parts if row["GMAC"] == 0] == [
        "preprocessing",
        "gate multiplications and sums",
        "resizing of logits",
    ]
    assert all(row["bound ms"] >= max(row["GMAC"] / 80, row["MiB"] * 2**20 / 4e9) for row in roofline)
    assert [row["batch size"] for row in calls] == [1, 16] and all(row["ms in convolutions"] > 0 for row in calls)
    assert {name.partition("/")[0] for name in values["samples"]} == {*speed.PARTS}


def test_gates_open_on_the_given_edges_only():
    model = build_network(default_config(Settings(opts=TINY), [])).eval()
    edges = model.backbone.lattice.edges
    route = {edge for edge in edges if edge.move.name == "KEEP" or edge.source.layer < 3}
    force_gates(model.backbone, route.__contains__, bias=1.0)
    with torch.inference_mode():
        (output,) = model([{"image": torch.full((3, 64, 64), 100.0)}])
    expected = torch.tensor([1.0 if edge in route else 0.0 for edge in edges]).tanh()
    torch.testing.assert_close(output["gates"], expected)


def test_routes_that_cannot_differ_are_an_error(monkeypatch):
    monkeypatch.setattr(speed_routes, "MAX_SEEDS", 3)
    model = build_network(default_config(Settings(opts=TINY), [])).eval()
    image = torch.full((3, 32, 32), 100.0)
    with pytest.raises(AssertionError, match="no seed below 3 gives 2 images different routes"):
        speed_routes.spread_routes(model, [image, image])


@pytest.mark.parametrize("case_type", [TrainingCase, BaselineTrainingCase])
def test_training_steps_lower_the_loss(case_type, monkeypatch):
    losses = []
    backward = torch.Tensor.backward
    monkeypatch.setattr(torch.Tensor, "backward", lambda loss: losses.append(loss.item()) or backward(loss))
    run = case_type("step", 2, 64, ("MODEL.BACKBONE.DROP_PROB", 0.0)).prepare(Settings(opts=TINY))
    for _ in range(4):
        run()
    assert losses[-1] < losses[0]


def pieces_of(function, *inputs):
    with torch.no_grad(), WorkCounter(lambda: "any") as counter:
        function(*inputs)
    return [(piece.madds, piece.num_bytes) for piece in counter.pieces]


def test_work_of_convolutions_in_closed_form():
    x = torch.rand(2, 8, 6, 10)
    separable = [nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.Conv2d(8, 4, 1, bias=False)]
    chain = ConvChain(separable, [True, False], replaced=nn.Sequential(*separable))
    outputs = 2 * 4 * 6 * 10
    assert pieces_of(chain, x) == [
        (9 * x.numel(), 4 * (x.numel() + 8 * 9 + 8 + x.numel())),
        (8 * outputs, 4 * (x.numel() + 8 * 4 + outputs)),
    ]
    strided = nn.Conv2d(8, 4, 1, stride=2, bias=False)
    outputs = 2 * 4 * 3 * 5
    assert pieces_of(strided, x) == [(8 * outputs, 4 * (x.numel() // 4 + 8 * 4 + outputs))]


@pytest.mark.parametrize(
    ("function", "tensors"),
    [
        (lambda x: x.mul_(torch.tensor(0.5)), 2),
        (torch.relu, 2),
        (lambda x: x.addcmul_(x, x), 4),
        (lambda x: x.copy_(x[:, :]), 2),
        (lambda x: x[:, None].expand(100, 3, 100).mT, 0),
        (lambda x: torch.empty_like(x), 0),
    ],
)
def test_work_of_other_operations_is_what_they_read_and_write(function, tensors):
    pieces = pieces_of(function, torch.rand(100, 100))
    assert sum(num_bytes for _, num_bytes in pieces) // 40_000 == tensors and not any(madds for madds, _ in pieces)


def test_parts_compute_the_prediction_and_have_its_multiply_adds():
    model = open_network(default_config(Settings(opts=TINY), []))
    optimized, images = optimize(model), [random_image((64, 96), device=model.device) for _ in range(2)]
    timer = PartTimer(optimized)
    with torch.inference_mode():
        logits = predict_in_parts(optimized, images, timer)
    expected = [output["sem_seg"] for output in predict(optimized, images)]
    torch.testing.assert_close(logits, expected, rtol=0, atol=0)
    assert all(seconds > 0 for seconds in timer.seconds.values())
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model([{"image": image} for image in images])
    pieces = work_of(optimized, images)
    assert sum(piece.madds for piece in pieces) == counter.get_total_flops() / 2
    assert {piece.kind for piece in pieces} == timer.seconds.keys()


def test_time_of_inner_parts_is_not_counted_twice(monkeypatch):
    model = optimize(open_network(default_config(Settings(opts=TINY), [])))
    timer, clock = PartTimer(model), iter([0.0, 1.0, 4.0, 10.0])  # start of the outer and inner part, and their ends
    monkeypatch.setattr("harness.timer", lambda: next(clock))
    timer.run(lambda x: timer.run(lambda y: y, x, kind="head"), torch.zeros(1), kind=SUMS)
    assert (timer.seconds[SUMS], timer.seconds["head"]) == (7.0, 3.0)
