"""Parts of a network: their sums are parameters and costs of the whole."""

import pytest
import torch

from dl_lib.engine.inspection import parts_of
from dl_lib.experiment.experiment import load_experiment
from dl_lib.modeling import build_model
from dl_lib.modeling.costs.static import StaticCosts
from tests.helpers.tiny_model import model_of, random_image


def test_parts_of_a_routed_network():
    model = model_of().eval()
    parts = parts_of(model, size=(120, 128))
    assert [part.name for part in parts] == ["stem", *map(str, model.backbone.lattice.nodes), "head"]
    assert sum(part.parameters for part in parts) == sum(values.numel() for values in model.parameters())
    assert sum(map(sum, (part.gflops for part in parts))) * 1e9 == pytest.approx(model.costs.table(120, 128).dense)
    returned = {}
    for node in model.backbone.lattice.nodes:
        module = model.backbone.cell(node).operation
        module.register_forward_hook(lambda _, inputs, y, node=node: returned.update({str(node): y.shape[1:]}))
    with torch.no_grad():
        model.backbone.sparse = False
        model([random_image(120, 128)])
    assert {part.name: part.shape for part in parts[1:-1]} == {name: tuple(shape) for name, shape in returned.items()}


def test_parts_of_a_static_network():
    cfg = load_experiment("Zoo/Digits.ReXNet", ["MODEL.DEVICE=cpu"], purpose="evaluation").cfg
    model = build_model(cfg).eval()
    parts = parts_of(model, size=(96, 64))
    features = model.backbone(torch.zeros(1, 3, 96, 64))
    shapes = {name: tuple(feature.shape[1:]) for name, feature in features.items()}
    assert {part.name: part.shape for part in parts[:-1]} == shapes and parts[-1].name == "head"
    assert all(part.parameters and sum(part.gflops) for part in parts)
    assert sum(part.parameters for part in parts) == sum(values.numel() for values in model.parameters())
    expected = StaticCosts(model.backbone, model.sem_seg_head).madds(96, 64)
    assert sum(map(sum, (part.gflops for part in parts))) * 1e9 == pytest.approx(expected)


def test_auxiliary_heads_cost_nothing_in_prediction():
    plain, model = model_of(), model_of("MODEL.AUXILIARY_HEADS.IN_FEATURES", ["layer_1"])
    *parts, auxiliary = parts_of(model, size=(128, 128))
    assert auxiliary.name == "auxiliary head of layer_1" and not any(auxiliary.gflops) and auxiliary.parameters
    assert parts == parts_of(plain, size=(128, 128))
