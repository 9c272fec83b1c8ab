"""MODEL.CONV: which convolutions are replaced, and what becomes of pretrained plain ones."""

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
from dl_lib.modeling.conv_replacement import CONV_TYPES
from dl_lib.modeling.dynamic.counters import MaddsObserver

CHOICES = ["larger", "1x1", "all"]
KERNELS = [("SAC", "larger"), ("SPConv", "larger"), *product(["CondConv", "DynamicConv", "ConvAWS"], CHOICES)]
RESNET = torchvision.models.get_model("resnet18", weights=None).double().eval()


class Holder(nn.Module):
    def __init__(self, name, conv_type, stages, *overrides):
        super().__init__()
        cfg = get_cfg()
        cfg.merge_from_list(["MODEL.BACKBONE.NORM", "BN", "MODEL.CONV.TYPE", conv_type, "MODEL.CONV.STAGES", stages])
        cfg.merge_from_list(list(overrides))
        self.backbone = BACKBONE_REGISTRY.get(name)(cfg)


@pytest.mark.parametrize(("conv_type", "kernels"), KERNELS)
@pytest.mark.parametrize(
    ("name", "stages"), [("resnet18", ["c1", "c4"]), ("rexnet", ["c3"]), ("mobilenet_v3_small", ["c2", "c4"])]
)
def test_the_kernels_of_a_stage_that_are_named_are_replaced_and_no_others(name, stages, conv_type, kernels):
    if conv_type == "SPConv" and name != "resnet18":
        with pytest.raises(ConfigError, match=r"no convolution in groups.*Received: .*groups=\d"):
            Holder(name, conv_type, stages)
        return
    if (name, kernels) == ("resnet18", "1x1"):
        stages = stages[1:]  # the first has none
    with torch.device("meta"):
        plain = Holder(name, "", []).backbone
        model = Holder(name, conv_type, stages, "MODEL.CONV.KERNELS", kernels).backbone.eval()
    for stage, _ in plain.output_shapes.items():
        for key, module in plain.stage(stage):
            is_conv = isinstance(module, nn.Conv2d) and not re.search(r"\.squeeze\.|\.fc[12]$", key)
            replaced = is_conv and stage in stages and kernels in ("all", CHOICES[module.kernel_size == (1, 1)])
            expected = CONV_TYPES[conv_type] if replaced else type(module)
            assert type(model.get_submodule(key)) is expected, key
    with MaddsObserver(2) as observer:
        features = model(torch.empty(2, 3, 64, 96, device="meta"))
    for feature, shape in model.output_shapes.items():
        assert features[feature].shape == (2, shape.channels, 64 // shape.stride, 96 // shape.stride)
    assert observer.madds[0] == observer.madds[1]


def test_a_stage_without_such_kernels():
    with pytest.raises(ConfigError, match=r"no convolution with such kernels. Received: stage='c1', kernels='1x1'"):
        Holder("resnet18", "CondConv", ["c1"], "MODEL.CONV.KERNELS", "1x1")


@pytest.mark.parametrize(("conv_type", "kernels"), [each for each in KERNELS if each[0] != "SPConv"])
def test_plain_weights_become_those_of_the_layer(conv_type, kernels):
    """Exactly; CondConv where its routing is that of the start, 0.5 for every expert."""
    model = Holder("resnet18", conv_type, ["c3", "c4"], "MODEL.CONV.KERNELS", kernels).double().eval()
    load_weights(model, RESNET.state_dict(), path="resnet18", may_also_hold=["fc"])
    for module in model.modules():
        if isinstance(module, ExpertRouting):
            nn.init.zeros_(module.fc.weight)
    x = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    with torch.no_grad():
        logits = RESNET.fc(model.backbone(x)["c5"].mean(dim=(2, 3)))
        torch.testing.assert_close(logits, RESNET(x), rtol=1e-9, atol=1e-9)


def test_its_own_weights_come_back_as_they_were():
    for conv_type in CONV_TYPES:
        with torch.device("meta"):
            model, other = (Holder("resnet18", conv_type, ["c2"]) for _ in range(2))
        for holder in (model, other):
            holder.backbone.shorten(["c2"])
            holder.to_empty(device="cpu")
        with torch.no_grad():
            for p in (*model.parameters(), *model.buffers()):
                if p.is_floating_point():
                    p.normal_()
        load_weights(other, model.state_dict(), path="own")
        torch.testing.assert_close(other.state_dict(), model.state_dict(), rtol=0, atol=0)


def test_sp_conv_says_that_it_cannot_start_from_a_plain_kernel():
    model = Holder("resnet18", "SPConv", ["c2"])
    with pytest.raises(CheckpointError, match=r"layer1\.0\.conv1\.weight +\(a plain kernel, which SPConv cannot start"):
        load_weights(model, RESNET.state_dict(), path="resnet18", may_also_hold=["fc"])


@pytest.mark.parametrize("kernels", CHOICES)
def test_replaced_layers_learn(kernels):
    options = ["MODEL.BACKBONE.WIDTH_FACTOR", 0.25, "MODEL.CONV.KERNELS", kernels]
    model = Holder("rexnet", "DynamicConv", ["c4"], *options).backbone.train()
    model(torch.randn(2, 3, 64, 64))["c5"].square().mean().backward()
    assert all(p.grad is not None for p in model.parameters())
