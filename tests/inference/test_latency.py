"""Measurement of latency tables with a clock that advances by one step per reading."""

import itertools
import random

import numpy as np
import pytest
import torch

from dl_lib.inference import latency, routed_prediction
from dl_lib.inference.latency import profile_latency, random_routes
from dl_lib.inference.routed_prediction import RoutedPrediction
from dl_lib.modeling.costs.latency import LatencyTable
from dl_lib.modeling.dynamic.forced_gates import force_gates
from dl_lib.modeling.dynamic.lattice import Lattice
from dl_lib.utils.environment import library_versions
from tests.helpers.tiny_model import model_of

SIZE = (64, 96)


@pytest.fixture
def steps(monkeypatch):
    """Clock of which each reading takes one millisecond."""
    readings = itertools.count()
    monkeypatch.setattr(routed_prediction, "_mark", lambda device: next(readings))
    monkeypatch.setattr(routed_prediction, "_ms_between", lambda start, end: end - start)


@pytest.fixture(autouse=True)
def short(monkeypatch):
    monkeypatch.setattr(latency, "NUM_ROUTES", 5)
    monkeypatch.setattr(latency, "_MAX_ROUNDS", 1)


@pytest.mark.parametrize("kind", ["soft", "sigmoid"])
def test_time_of_a_prediction_is_divided_among_its_parts(steps, kind):
    """A call of a part takes two readings, start and end; a prediction takes one more, its start."""
    model = model_of("MODEL.GATE.KIND", kind)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    profile = profile_latency(model, size=SIZE, network={})
    table, layers = profile.table, len(model.backbone.lattice.layers)
    assert (table.stem, table.head, table.decisions) == (3, 2, layers)
    assert {*table.operations.values(), *table.transitions.values()} == {2.0}
    gates = {node: table.gates[node] for node in model.backbone.lattice.layers[-1]}
    assert min(gates.values()) >= 1 and max(gates.values()) <= 2 and table.gates[model.backbone.lattice.source] == 1
    assert table.conditions.versions == library_versions() and table.conditions.versions["torch"] == torch.__version__
    assert table.conditions.size == (64, 96) and table.conditions.route == model.backbone.route
    assert len(profile.routes) == 5 and len({route.edges for route in profile.routes}) > 2
    assert all(route.measured_ms > 0 for route in profile.routes)
    assert model.state_dict().keys() == before.keys() and model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_parts_of_a_pass_sum_up_to_its_duration(steps):
    """On the profiled routes, the sum of the parts is the number of readings: two per call and one at the start."""
    model = model_of().eval()
    prediction = RoutedPrediction(model, SIZE)
    for route in random_routes(model.backbone.lattice, random.Random(0), count=5):
        ms = prediction.parts_ms(route)
        assert sum(ms.values()) == 2 * (len(ms) - 1) + 1  # one entry is that of the decisions
        routing = prediction.routing(route)
        table = LatencyTable.of_parts(
            latency.LatencyConditions("", 1, "float32", {}, SIZE, {}, model.backbone.route),
            scalars={name: value for (name, key), value in ms.items() if key is None},
            **{
                name: {key: value for (kind, key), value in ms.items() if kind == name}
                for name in ("operations", "gates", "transitions")
            },
        )
        assert table.real_complete(routing).item() == pytest.approx(sum(ms.values()))


def test_measured_times_are_positive():
    profile = profile_latency(model_of(), size=(32, 32), network={})
    assert all(ms > 0 for costs in profile.table.complete for ms in costs)


def test_table_predicts_the_routes_that_it_is_checked_on(steps, monkeypatch):
    """With this clock, parts take equally long on all routes, except the last gate of each layer."""

    def seconds(self, route):
        return sum(self.parts_ms(route).values()) / 1e3

    monkeypatch.setattr(RoutedPrediction, "seconds", seconds)
    profile = profile_latency(model_of(), size=SIZE, network={})
    assert [route.predicted_ms for route in profile.routes] == pytest.approx(
        [route.measured_ms for route in profile.routes], rel=0.1
    )
    assert profile.median_error == np.median([abs(route.error) for route in profile.routes]) > 0


def test_network_without_gates_is_an_error():
    with pytest.raises(ValueError, match="must have learned gates"):
        profile_latency(model_of("MODEL.GATE.GATE_ON", False), size=SIZE, network={})


def test_random_routes_have_few_to_many_edges():
    lattice = Lattice([2, 3, 3])
    routes = random_routes(lattice, random.Random("a"), count=9)
    assert min(map(len, routes)) < len(lattice.edges) / 2 < max(map(len, routes))


@pytest.mark.parametrize("kind", ["soft", "hard", "sigmoid", "softmax"])
def test_forced_gates_open_the_edges_of_a_route(kind):
    model = model_of("MODEL.GATE.KIND", kind).eval()
    edges = model.backbone.lattice.edges
    force_gates(model.backbone, lambda edge: edge.move.name == "KEEP", bias=1.0)
    with torch.inference_mode():
        (output,) = model([{"image": torch.zeros(3, 64, 64)}])
    reached = [edge.source.scale == 0 for edge in edges]
    opened = [edge.move.name == "KEEP" and is_reached for edge, is_reached in zip(edges, reached, strict=True)]
    assert (output["gates"] > 0).tolist() == opened
