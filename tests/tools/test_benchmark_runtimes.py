"""Benchmark of exported files: routes of given costs, and files with the gates of a route."""

import onnx
import pytest
import torch
from harness import Settings
from networks import SMALL, build_network, executed_gmadds, predict, quickstart_config, random_image
from runtimes import COSTS, HALF, latency_table, on_route, randomize_gates, routes_of_costs, write_with_biases_of


@pytest.fixture(scope="module")
def model():
    model = build_network(quickstart_config(Settings())).eval()
    randomize_gates(model)
    return model


def test_costs_are_those_of_the_routes(model):
    image = random_image(SMALL, device="cpu")
    routes = routes_of_costs(model, image)
    assert tuple(routes) == COSTS
    costs = {name: executed_gmadds(*predict(routed, [image])) for name, (routed, _) in routes.items()}
    for name, (_, ratio) in routes.items():
        assert costs[name] / costs["all open"] == pytest.approx(ratio)
    assert HALF[0] <= routes["half"][1] <= HALF[1]
    (output,) = predict(routes["all closed"][0], [image])
    assert not output["gates"].any()


def test_files_get_the_biases_of_the_gates(model, tmp_path):
    tensors = [onnx.numpy_helper.from_array(value.numpy(), name) for name, value in model.state_dict().items()]
    onnx.save(onnx.ModelProto(graph=onnx.GraphProto(initializer=tensors)), tmp_path / "source.onnx")
    routed = on_route(model, frozenset(model.backbone.lattice.edges[:3]))
    write_with_biases_of(routed, tmp_path / "source.onnx", tmp_path / "target.onnx")
    written = onnx.load(tmp_path / "target.onnx").graph.initializer
    for tensor in written:
        assert torch.equal(torch.tensor(onnx.numpy_helper.to_array(tensor)), routed.state_dict()[tensor.name])
    assert len(written) == len(model.state_dict())


def test_table_has_a_column_per_cost():
    samples = {("a", "all open"): [2.0], ("a", "half"): [1.0], ("a", "all closed"): [0.5], ("b", "all open"): [3.0]}
    table = latency_table(samples, dict.fromkeys(COSTS, 0.5), title="Latency")
    assert table.rows == [("a", 2000.0, 1000.0, 500.0, 0.5, 0.25), ("b", 3000.0, None, None, None, None)]
