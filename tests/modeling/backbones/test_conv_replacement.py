"""Convolutions replaced by `MODEL.CONV`, and conversion of pretrained plain weights."""

import re
from itertools import product

import pytest
import torch
import torchvision
from torch import nn

from dl_lib.checkpoint.errors import CheckpointError
from dl_lib.checkpoint.weights import load_weights
from dl_lib.config import ConfigError, get_cfg
from dl_lib.layers import ExpertRouting
from dl_lib.modeling import BACKBONE_REGISTRY
from dl_lib.modeling.backbones.conv_replacement import CONV_TYPES
from dl_lib.modeling.costs.counters import MaddsObserver

ALL_KERNELS = ["larger", "1x1", "squeeze"]
CHOICES = [["larger"], ["1x1"], ["squeeze"], ALL_KERNELS]
NAMES = ["resnet18", "mobilenet_v3_small"]
RELEASED = {name: torchvision.models.get_model(name, weights=None).double().eval() for name in NAMES}


class BackboneHolder(nn.Module):
    def __init__(self, name, conv_type, stages, *overrides):
        super().__init__()
        cfg = get_cfg()
        cfg.merge_from_list(["MODEL.BACKBONE.NORM", "BN", "MODEL.CONV.TYPE", conv_type, "MODEL.CONV.STAGES", stages])
        cfg.merge_from_list(list(overrides))
        self.backbone = BACKBONE_REGISTRY.get(name)(cfg)


def kernel_kind(name, conv):
    return "squeeze" if re.search(r"\.squeeze\.|\.fc[12]$", name) else ALL_KERNELS[conv.kernel_size == (1, 1)]


@pytest.mark.parametrize(("conv_type", "kernels"), [*product(CONV_TYPES, CHOICES)])
@pytest.mark.parametrize(
    ("name", "stages"), [("resnet18", ["c1", "c4"]), ("rexnet", ["c3"]), ("mobilenet_v3_small", ["c2", "c4"])]
)
def test_selected_kernels_of_the_stages_are_replaced(name, stages, conv_type, kernels):
    options = ["MODEL.CONV.KERNELS", kernels]
    if name == "resnet18" and "larger" not in kernels:
        with pytest.raises(ConfigError, match=r"stage c1; .*\['larger'\], or .*Received: MODEL.CONV.KERNELS=\["):
            BackboneHolder(name, conv_type, stages, *options)
        stages = stages[1:]
        if kernels == ["squeeze"]:
            return
    if conv_type == "SPConv" and name != "resnet18" and "larger" in kernels:
        with pytest.raises(ConfigError, match=r"SPConv cannot replace grouped.*Received: .*groups=\d"):
            BackboneHolder(name, conv_type, stages, *options)
        return
    if (name, conv_type) == ("rexnet", "SPConv"):
        with pytest.raises(ConfigError, match=r"SPConv cannot replace .*: .*divisible by groups.*Received: "):
            BackboneHolder(name, conv_type, stages, *options)
        return
    with torch.device("meta"):
        plain = BackboneHolder(name, "", []).backbone
        model = BackboneHolder(name, conv_type, stages, *options).backbone.eval()
    for stage, _ in plain.output_shapes.items():
        for key, module in plain.stage(stage):
            replaced = isinstance(module, nn.Conv2d) and stage in stages and kernel_kind(key, module) in kernels
            expected = CONV_TYPES[conv_type] if replaced else type(module)
            assert type(model.get_submodule(key)) is expected, key
    with MaddsObserver(2) as observer:
        features = model(torch.empty(2, 3, 64, 96, device="meta"))
    for feature, shape in model.output_shapes.items():
        assert features[feature].shape == (2, shape.channels, 64 // shape.stride, 96 // shape.stride)
    assert observer.madds[0] == observer.madds[1]


@pytest.mark.parametrize("conv_type", [name for name in CONV_TYPES if name != "SPConv"])
@pytest.mark.parametrize(
    ("name", "kernels"),
    [
        ("resnet18", ["larger"]),
        ("resnet18", ["1x1"]),
        ("mobilenet_v3_small", ["squeeze"]),
        *product(NAMES, [ALL_KERNELS]),
    ],
)
def test_plain_weights_load_with_unchanged_outputs(name, kernels, conv_type):
    """CondConv has its initial routing weights, 0.5 for every expert."""
    model = BackboneHolder(name, conv_type, ["c4", "c5"], "MODEL.CONV.KERNELS", kernels).double().eval()
    released = RELEASED[name]
    load_weights(model, released.state_dict(), path=name, allow_unexpected_keys=["fc", "classifier"])
    for module in model.modules():
        if isinstance(module, ExpertRouting):
            nn.init.zeros_(module.fc.weight)
    x = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    with torch.no_grad():
        classify = released.fc if name == "resnet18" else released.classifier
        logits = classify(model.backbone(x)["c5"].mean(dim=(2, 3)))
        torch.testing.assert_close(logits, released(x), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("conv_type", ["ConvAWS", "SAC"])
def test_half_precision_plain_weights_load_exactly(conv_type, dtype):
    holder = BackboneHolder("resnet18", conv_type, ["c2"])
    weights = {key: value.to(dtype) for key, value in RELEASED["resnet18"].state_dict().items()}
    load_weights(holder, weights, path="resnet18", allow_unexpected_keys=["fc"])
    layers = {
        key: module for key, module in holder.backbone.named_modules() if isinstance(module, CONV_TYPES[conv_type])
    }
    assert len(layers) == 4
    for key, layer in layers.items():
        expected = weights[key.replace("body.", "", 1) + ".weight"].float()
        torch.testing.assert_close(layer.standardized_weight(), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("conv_type", CONV_TYPES)
def test_replaced_layers_of_frozen_stages_are_frozen(conv_type):
    backbone = BackboneHolder("resnet18", conv_type, ["c2", "c3"], "MODEL.BACKBONE.FROZEN_STAGES", ["c2"]).backbone
    for stage, learns in (("c2", False), ("c3", True)):
        modules = [module for _, module in backbone.stage(stage)]
        assert any(isinstance(module, CONV_TYPES[conv_type]) for module in modules)
        assert all(p.requires_grad is learns for module in modules for p in module.parameters())
        assert any(isinstance(module, nn.BatchNorm2d) for module in modules) is learns


def test_state_dict_round_trip():
    for conv_type in CONV_TYPES:
        with torch.device("meta"):
            model, other = (BackboneHolder("resnet18", conv_type, ["c2"]) for _ in range(2))
        for holder in (model, other):
            holder.backbone.truncate(["c2"])
            holder.to_empty(device="cpu")
        with torch.no_grad():
            for p in (*model.parameters(), *model.buffers()):
                if p.is_floating_point():
                    p.normal_()
        load_weights(other, model.state_dict(), path="own")
        torch.testing.assert_close(other.state_dict(), model.state_dict(), rtol=0, atol=0)


def test_plain_layers_reject_standardized_kernels():
    standardized = BackboneHolder("resnet18", "ConvAWS", ["c2"]).state_dict()
    with pytest.raises(
        CheckpointError, match=r"layer1\.0\.conv1\.weight +\(a kernel to be standardized, of ConvAWS or"
    ):
        load_weights(
            BackboneHolder("resnet18", "", []),
            standardized,
            path="own",
            allow_unexpected_keys=["weight_gamma", "weight_beta"],
        )


def test_sp_conv_rejects_plain_kernels():
    model, weights = BackboneHolder("resnet18", "SPConv", ["c2"]), RELEASED["resnet18"].state_dict()
    with pytest.raises(
        CheckpointError, match=r"layer1\.0\.conv1\.weight +\(a plain kernel, which SPConv cannot load"
    ) as e:
        load_weights(model, weights, path="resnet18", allow_unexpected_keys=["fc"])
    for kind in ("UNEXPECTED", "MISSING"):
        assert f"set MODEL.ALLOW_{kind}_KEYS, e.g. [conv1, conv2]\n" in str(e.value)
    load_weights(
        model,
        weights,
        path="resnet18",
        allow_unexpected_keys=["fc", "conv1", "conv2"],
        allow_missing_keys=["conv1", "conv2"],
    )
    assert torch.equal(model.backbone.body.layer2[0].conv1.weight, weights["layer2.0.conv1.weight"].float())


@pytest.mark.parametrize("kernels", CHOICES)
def test_replaced_layers_receive_gradients(kernels):
    options = ["MODEL.BACKBONE.WIDTH_FACTOR", 0.25, "MODEL.CONV.KERNELS", kernels]
    model = BackboneHolder("rexnet", "DynamicConv", ["c4"], *options).backbone.train()
    model(torch.randn(2, 3, 64, 64))["c5"].square().mean().backward()
    assert all(p.grad is not None for p in model.parameters())
