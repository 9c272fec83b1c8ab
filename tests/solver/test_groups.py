"""Which parameter learns at which rate: toy networks by hand, the published networks by their counts."""

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from dl_lib.config import get_cfg
from dl_lib.modeling.build import build_model
from dl_lib.solver import build_optimizer, group_parameters

REFERENCE = json.loads((Path(__file__).parents[1] / "reference" / "solver" / "solver.json").read_text())["experiments"]


class Gate(nn.Module):
    def __init__(self):
        super().__init__()
        self.reduce = nn.Conv2d(4, 2, 1, bias=False)
        self.norm = nn.GroupNorm(1, 2)
        self.predict = nn.Conv2d(2, 3, 1)


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.gate = Gate()
        self.scale = nn.Parameter(torch.ones(()))
        self.same = self.conv
        self.frozen = nn.Parameter(torch.ones(2), requires_grad=False)


def names_by_setting(groups):
    settings = {(group["lr"], group["weight_decay"]): [name for name, _ in group["params"]] for group in groups}
    assert len(settings) == len(groups)
    return settings


def test_toy_network_by_hand():
    groups = group_parameters(
        Network(), base_lr=0.1, weight_decay=0.01, weight_decay_norm=0.0, gate_types=(Gate,), gate_lr_multiplier=2.5
    )
    assert names_by_setting(groups) == {
        (0.1, 0.01): ["scale", "conv.weight", "conv.bias"],
        (0.1, 0.0): ["norm.weight", "norm.bias"],
        (0.25, 0.01): ["gate.reduce.weight", "gate.predict.weight", "gate.predict.bias"],
        (0.25, 0.0): ["gate.norm.weight", "gate.norm.bias"],
    }


def test_groups_do_not_depend_on_the_settings():
    def names(**settings):
        groups = group_parameters(Network(), base_lr=0.1, weight_decay=0.01, gate_types=(Gate,), **settings)
        return [[name for name, _ in group["params"]] for group in groups]

    assert names(weight_decay_norm=0.01) == names(weight_decay_norm=0.0, gate_lr_multiplier=2.5)


def test_shared_parameter_moves_once_in_each_step():
    network = Network()
    optimizer = torch.optim.SGD(group_parameters(network, base_lr=1.0, weight_decay=0.0, weight_decay_norm=0.0))
    before = network.conv.bias.detach().clone()
    (network.conv.bias.sum() + network.same.bias.sum()).backward()
    optimizer.step()
    torch.testing.assert_close(network.conv.bias.detach(), before - 2.0)


def test_nothing_to_train_is_an_error():
    with pytest.raises(ValueError, match=r"no trainable parameter.*Received: model=ReLU"):
        group_parameters(nn.ReLU(), base_lr=1.0, weight_decay=0.0, weight_decay_norm=0.0)


def test_unknown_optimizer_names_the_known():
    cfg = get_cfg()
    cfg.SOLVER.OPTIMIZER.NAME = "SGDD"
    with pytest.raises(KeyError, match=r"SGD.*Received: SOLVER.OPTIMIZER.NAME='SGDD'"):
        build_optimizer(cfg, Network())


@pytest.mark.parametrize(
    ("name", "layers", "base_lr", "gate_lr_multiplier"),
    [("Seg.Layer16", 16, 0.05, 1.0), ("Seg.Layer16.ImageNet", 16, 0.02, 2.5), ("Seg.Layer33.ImageNet", 33, 0.02, 2.5)],
)
def test_published_networks_have_the_published_groups(name, layers, base_lr, gate_lr_multiplier):
    cfg = get_cfg()
    cfg.MODEL.DEVICE = "meta"
    cfg.MODEL.BACKBONE.LAYER_NUM, cfg.MODEL.BACKBONE.CELL_NUM_LIST = layers, [2, 3] + [4] * (layers - 2)
    cfg.SOLVER.OPTIMIZER.BASE_LR, cfg.SOLVER.OPTIMIZER.GATE_LR_MULTI = base_lr, gate_lr_multiplier
    with torch.device("meta"):  # nothing but shapes is looked at
        model = build_model(cfg)
    optimizer = build_optimizer(cfg, model)
    groups = {}
    for group in optimizer.param_groups:  # the published code's groups are as many as there are settings
        setting = (group["lr"], group["weight_decay"])
        tensors, elements = groups.get(setting, (0, 0))
        groups[setting] = (tensors + len(group["params"]), elements + sum(p.numel() for p in group["params"]))
    published = {
        (group["lr"], group["weight_decay"]): (group["tensors"], group["elements"])
        for group in REFERENCE[name]["groups"]
    }
    assert groups == published
    assert [group["momentum"] for group in optimizer.param_groups] == [0.9] * len(optimizer.param_groups)
    assert sorted(n for group in optimizer.param_groups for n in group["param_names"]) == sorted(
        n for n, _ in model.named_parameters()
    )


def test_first_step_of_adamw_in_closed_form():
    """Adam's first step is the sign of the gradient times the learning rate; AdamW's decay is taken off apart."""
    cfg = get_cfg()
    settings = cfg.SOLVER.OPTIMIZER
    settings.NAME, settings.BASE_LR, settings.WEIGHT_DECAY = "AdamW", 0.01, 0.1
    model = nn.Conv2d(3, 2, 1).double()
    before = model.weight.detach().clone()
    optimizer = build_optimizer(cfg, model)
    (model.weight.sum() - model.bias.sum()).backward()
    optimizer.step()
    torch.testing.assert_close(model.weight.detach(), before * (1 - 0.01 * 0.1) - 0.01, rtol=1e-6, atol=1e-8)
