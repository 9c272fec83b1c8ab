"""Speed benchmark: tables of a whole run on small networks, and the cases that they compare."""

import json

import pytest
import speed
import speed_prediction
import speed_routes
import speed_training
import torch
from harness import Memory, Settings
from networks import NETWORKS, build_network, default_config, set_gates
from speed_training import BaselineTrainingCase
from training_steps import TrainingCase

from tests.helpers.published import SETTINGS

TINY = tuple(str(word) for word in SETTINGS["tiny"])


@pytest.fixture
def small_sizes(monkeypatch):
    """Small networks and sizes, and memory without a subprocess, which the harness tests cover."""
    for module in (speed_prediction, speed_training):
        monkeypatch.setattr(module, "measure_memory", lambda case, settings: case.prepare(settings) and Memory(3, 1))
    monkeypatch.setitem(NETWORKS, "quickstart", NETWORKS["default network"])
    monkeypatch.setattr(speed_prediction, "SMALL", (32, 32))
    monkeypatch.setattr(speed_prediction, "matmul_gmadds_per_second", lambda settings: 100.0)
    monkeypatch.setattr(speed_prediction, "LARGE", (64, 128))
    monkeypatch.setattr(speed_prediction, "CALLS_PER_ROUND", 1)
    monkeypatch.setattr(speed_routes, "LARGE", (64, 128))
    monkeypatch.setattr(speed_routes, "COST_SIZE", (32, 32))
    monkeypatch.setattr(speed_routes, "NUM_ROUTES", 3)
    monkeypatch.setattr(speed_routes, "BATCH_SIZE", 3)
    monkeypatch.setattr(speed_routes, "BATCH_SIDES", dict.fromkeys(NETWORKS, (64, 64)))
    monkeypatch.setattr(speed_training, "STEPS", ((2, 64),))
    monkeypatch.setattr(speed, "start", lambda arguments: Settings(opts=TINY))


def test_all_tables_of_a_run(tmp_path, small_sizes):
    speed.main(["--output", str(tmp_path), "--repeats", "1"])
    values = json.loads((tmp_path / "speed.json").read_text())
    large, routes, batch, small, steps = values["tables"].values()
    assert [(row["network"], row["memory MiB"]) for row in large] == [("baseline", 2), ("dl_lib", 2)]
    assert large[1]["speedup"] == large[0]["seconds"] / large[1]["seconds"]
    ratios = [row["cost ratio"] for row in routes]
    assert ratios == sorted(ratios) and all(0.3 <= ratio <= 0.9 for ratio in ratios) and len(ratios) == 3
    assert [(row["network"], row["routes"]) for row in batch] == [("default network", 3), ("quickstart", 3)]
    assert [row["batch size"] for row in small] == [1, 16]
    assert [(row["images"], row["network"]) for row in steps] == [
        ("2x64x64", name) for name in ("baseline", "dl_lib", "checkpointed")
    ]
    assert {name.partition("/")[0] for name in values["samples"]} == {"large", "routes", "batch", "small", "steps"}


def test_gates_open_on_the_given_edges_only():
    model = build_network(default_config(Settings(opts=TINY), [])).eval()
    edges = model.backbone.lattice.edges
    route = {edge for edge in edges if edge.move.name == "KEEP" or edge.source.layer < 3}
    set_gates(model, route.__contains__, bias=1.0)
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
