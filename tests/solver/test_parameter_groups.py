"""Parameter groups of a small network and of the published networks."""

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from dl_lib.config import ConfigError, get_cfg
from dl_lib.modeling.build import build_model
from dl_lib.solver import GroupRule, build_optimizer, format_groups, group_parameters

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


def grouped(**settings):
    """Return learning rate, weight decay and parameter names of each group, by group name."""
    settings = {"base_lr": 0.1, "weight_decay": 0.01, "weight_decay_norm": 0.0, "gate_types": (Gate,), **settings}
    groups = group_parameters(Network(), **settings)
    result = {g["name"]: (g["lr"], g["weight_decay"], [name for name, _ in g["params"]]) for g in groups}
    assert len(result) == len(groups)
    return result


def test_groups_of_a_small_network():
    assert grouped(gate_lr_multiplier=2.5, weight_decay_bias=0.02) == {
        "weights": (0.1, 0.01, ["scale", "conv.weight"]),
        "biases": (0.1, 0.02, ["conv.bias"]),
        "norms": (0.1, 0.0, ["norm.weight", "norm.bias"]),
        "gate weights": (0.25, 0.01, ["gate.reduce.weight", "gate.predict.weight"]),
        "gate biases": (0.25, 0.02, ["gate.predict.bias"]),
        "gate norms": (0.25, 0.0, ["gate.norm.weight", "gate.norm.bias"]),
    }
    assert grouped()["biases"][:2] == (0.1, 0.01), "default: the weight decay of weights"


def test_first_matching_rule_applies():
    rules = [
        GroupRule("predict", lr_multi=0.5),
        GroupRule(r"^gate\.", weight_decay=0.3),
        GroupRule("(norm|conv).weight$", lr_multi=2.0, weight_decay=0.4),
    ]
    assert grouped(gate_lr_multiplier=2.5, rules=rules) == {
        "weights": (0.1, 0.01, ["scale"]),
        "biases": (0.1, 0.01, ["conv.bias"]),
        "norms": (0.1, 0.0, ["norm.bias"]),
        "predict: gate weights": (0.05, 0.01, ["gate.predict.weight"]),
        "predict: gate biases": (0.05, 0.01, ["gate.predict.bias"]),
        r"^gate\.: gate weights": (0.25, 0.3, ["gate.reduce.weight"]),
        r"^gate\.: gate norms": (0.25, 0.3, ["gate.norm.weight", "gate.norm.bias"]),
        "(norm|conv).weight$: weights": (0.2, 0.4, ["conv.weight"]),
        "(norm|conv).weight$: norms": (0.2, 0.4, ["norm.weight"]),
    }


def test_groups_without_a_rule_come_first():
    assert next(iter(grouped(rules=[GroupRule("scale|conv.weight", lr_multi=0.0)]))) == "biases"


def test_groups_do_not_depend_on_the_settings():
    def names(**settings):
        return [names for _, _, names in grouped(**settings).values()]

    assert names() == names(weight_decay_norm=0.01, weight_decay_bias=0.0, gate_lr_multiplier=2.5)
    with_rule = names(rules=[GroupRule("conv", lr_multi=0.1)])
    assert with_rule == names(rules=[GroupRule("conv", lr_multi=1.0, weight_decay=0.2)]) != names()


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        (["conv", "gates\\."], r"GROUPS\[1\]\.PARAMS must match .* nearest: gate.*PARAMS='gates\\\\\.'"),
        (["gate.predikt.weight"], r"nearest: gate\.predict\.weight"),
        (["frozen"], r"must match the name of a trainable parameter"),
        (["conv", "conv.bias"], r"GROUPS\[1\]\.PARAMS has no effect: earlier entries match all 1 .*such as conv\.bias"),
        (["a", "conv", "xyz"], r"the optimizer cannot be built: .*GROUPS\[2\]"),
        (["xyz", "conv", "zyx"], r"2 problems\n  1\. .*GROUPS\[0\].*\n  2\. .*GROUPS\[2\]"),
    ],
)
def test_rule_without_a_match_is_rejected_with_similar_names(rules, message):
    with pytest.raises(ConfigError, match=message):
        grouped(rules=[GroupRule(params, lr_multi=0.1) for params in rules])


def test_shared_parameter_is_updated_once_per_step():
    network = Network()
    optimizer = torch.optim.SGD(group_parameters(network, base_lr=1.0, weight_decay=0.0, weight_decay_norm=0.0))
    before = network.conv.bias.detach().clone()
    (network.conv.bias.sum() + network.same.bias.sum()).backward()
    optimizer.step()
    torch.testing.assert_close(network.conv.bias.detach(), before - 2.0)


def test_model_without_trainable_parameters_is_rejected():
    with pytest.raises(ValueError, match=r"trainable parameter.*Received: model=ReLU"):
        group_parameters(nn.ReLU(), base_lr=1.0, weight_decay=0.0, weight_decay_norm=0.0)


def test_unknown_optimizer_lists_the_nearest():
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
    with torch.device("meta"):  # only shapes are needed
        model = build_model(cfg)
    optimizer = build_optimizer(cfg, model)
    groups = {}
    for group in optimizer.param_groups:  # the published code has one group per setting
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
    """Adam's first step is the sign of the gradient times the learning rate; AdamW decays weights separately."""
    cfg = get_cfg()
    settings = cfg.SOLVER.OPTIMIZER
    settings.NAME, settings.BASE_LR, settings.WEIGHT_DECAY = "AdamW", 0.01, 0.1
    model = nn.Conv2d(3, 2, 1).double()
    before = model.weight.detach().clone()
    optimizer = build_optimizer(cfg, model)
    (model.weight.sum() - model.bias.sum()).backward()
    optimizer.step()
    torch.testing.assert_close(model.weight.detach(), before * (1 - 0.01 * 0.1) - 0.01, rtol=1e-6, atol=1e-8)


def configured(*overrides):
    cfg = get_cfg()
    cfg.merge_from_list(list(overrides))
    return build_optimizer(cfg, Network())


def test_config_groups_are_applied():
    optimizer = configured(
        "SOLVER.OPTIMIZER.NAME=AdamW",
        "SOLVER.OPTIMIZER.BETAS=[0.8,0.99]",
        "SOLVER.OPTIMIZER.EPS=1e-6",
        "SOLVER.OPTIMIZER.BASE_LR=0.2",
        "SOLVER.OPTIMIZER.WEIGHT_DECAY_BIAS=0",
        "SOLVER.OPTIMIZER.GROUPS=[{PARAMS: conv.weight, LR_MULTI: 0.5, WEIGHT_DECAY: 0.25}]",
    )
    assert {(group["betas"], group["eps"]) for group in optimizer.param_groups} == {((0.8, 0.99), 1e-6)}
    settings = {name: (g["lr"], g["weight_decay"]) for g in optimizer.param_groups for name in g["param_names"]}
    assert settings["conv.weight"] == (0.1, 0.25)
    assert settings["conv.bias"] == (0.2, 0.0)
    with pytest.raises(ConfigError, match=r"PARAMS must be a regular expression.*PARAMS='\('"):
        configured("SOLVER.OPTIMIZER.GROUPS=[{PARAMS: '(', LR_MULTI: 1}]")


def test_table_of_groups():
    settings = {"base_lr": 0.05, "weight_decay": 1e-4, "weight_decay_norm": 0.0, "gate_lr_multiplier": 2.0}
    optimizer = torch.optim.SGD(group_parameters(Network(), gate_types=(Gate,), **settings))
    torch.optim.lr_scheduler.LambdaLR(optimizer, lambda iteration: 0.001)
    rows = [line.split() for line in format_groups(optimizer).splitlines()[2:]]
    assert rows == [
        ["weights", "2", "109", "0.05", "0.0001"],
        ["biases", "1", "4", "0.05", "0.0001"],
        ["norms", "2", "8", "0.05", "0"],
        ["gate", "weights", "2", "14", "0.1", "0.0001"],
        ["gate", "biases", "1", "3", "0.1", "0.0001"],
        ["gate", "norms", "2", "4", "0.1", "0"],
    ]


def test_saved_state_loads_with_other_values_but_not_with_other_groups():
    def rule(params, multiplier):
        return f"SOLVER.OPTIMIZER.GROUPS=[{{PARAMS: {params}, LR_MULTI: {multiplier}}}]"

    saved = configured(rule("norm.weight", 0.1)).state_dict()
    configured(rule("norm.weight", 0.5)).load_state_dict(saved)
    # Equally many parameters of the same shapes: torch would silently exchange their states.
    with pytest.raises(
        ValueError, match=r"GROUPS must define.*saved=\[.*'norm\.weight: norms'.*current=.*'norm\.bias: "
    ):
        configured(rule("norm.bias", 0.1)).load_state_dict(saved)
