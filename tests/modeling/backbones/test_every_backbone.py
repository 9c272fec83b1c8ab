"""Contract of `Backbone`, for every registered static backbone."""

import pytest
import torch
import torchvision
from torch import nn
from torchvision.ops import FrozenBatchNorm2d

from dl_lib.checkpoint import Checkpointer
from dl_lib.config import ConfigError, get_cfg
from dl_lib.modeling import BACKBONE_REGISTRY, build_backbone
from dl_lib.modeling.backbones.base import FEATURES
from dl_lib.modeling.backbones.torchvision_nets import TORCHVISION_NETS
from dl_lib.modeling.costs.counters import MaddsObserver

CASES = [
    *((name, stride) for name in ("rexnet", "rexnet_lite") for stride in (8, 32)),
    *((name, net.output_strides[0]) for name, net in TORCHVISION_NETS.items()),
    ("mobilenet_v3_large", 32),
]


def make(name, *overrides, device="meta"):
    cfg = get_cfg()
    cfg.merge_from_list(["MODEL.BACKBONE.NORM", "BN", *overrides])
    with torch.device(device):
        return BACKBONE_REGISTRY.get(name)(cfg).eval()


def test_all_registered_backbones_are_tested():
    assert {name for name, _ in BACKBONE_REGISTRY} - {"DynamicNetwork"} == {name for name, _ in CASES}


@pytest.mark.parametrize(("name", "output_stride"), CASES)
def test_output_shapes_and_costs(name, output_stride):
    backbone = make(name, "MODEL.BACKBONE.OUTPUT_STRIDE", output_stride)
    assert tuple(backbone.output_shapes) == FEATURES
    assert [shape.stride for shape in backbone.output_shapes.values()] == [
        min(stride, output_stride) for stride in (2, 4, 8, 16, 32)
    ]
    assert backbone.size_divisor == output_stride
    with MaddsObserver(2) as observer:
        features = backbone(torch.empty(2, 3, 65, 96, device="meta"))
    for feature, shape in backbone.output_shapes.items():
        rows, columns = (-(-side // shape.stride) for side in (65, 96))
        assert features[feature].shape == (2, shape.channels, rows, columns)
    assert observer.madds[0] == observer.madds[1] > 0


@pytest.mark.parametrize("name", ["rexnet", "resnet18", "mobilenet_v3_small"])
def test_stages_partition_the_modules_and_freeze(name):
    backbone = make(name)
    modules = [key for stage in FEATURES for key, _ in backbone.stage(stage)]
    assert len(modules) == len(set(modules))
    owners = {key.rpartition(".")[0] for key, _ in backbone.named_parameters()}
    assert owners <= set(modules)
    frozen = make(name, "MODEL.BACKBONE.FROZEN_STAGES", ["c1", "c3"])
    for stage in FEATURES:
        is_trainable = stage not in ("c1", "c3")
        stage_modules = [module for _, module in frozen.stage(stage)]
        assert all(p.requires_grad is is_trainable for module in stage_modules for p in module.parameters())
        assert any(isinstance(m, nn.BatchNorm2d) for m in stage_modules) is is_trainable
        assert any(isinstance(m, FrozenBatchNorm2d) for m in stage_modules) is not is_trainable
    counters = {key for key in backbone.state_dict() if key.endswith("num_batches_tracked")}
    assert backbone.state_dict().keys() - counters == frozen.state_dict().keys() - counters
    with pytest.raises(ConfigError, match=r"available: c1, .*Received: stage='c0'"):
        list(backbone.stage("c0"))


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small"])
def test_torchvision_weights_load_and_features_match(name, tmp_path):
    reference = torchvision.models.get_model(name, weights=None).double().eval()
    torch.save(reference.state_dict(), tmp_path / "classifier.pth")
    backbone = build_backbone(name).double().eval()
    head = "fc" if name == "resnet18" else "classifier"
    holder = nn.ModuleDict({"backbone": backbone})
    Checkpointer(holder).load(str(tmp_path / "classifier.pth"), allow_unexpected_keys=[head])
    x = torch.randn(1, 3, 64, 96, dtype=torch.float64)
    with torch.no_grad():
        last = backbone(x)["c5"].mean(dim=(2, 3))
        logits = reference.fc(last) if name == "resnet18" else reference.classifier(last)
        torch.testing.assert_close(logits, reference(x))


@pytest.mark.parametrize(("name", "output_stride"), CASES)
def test_backbones_are_built_without_a_config(name, output_stride):
    settings = {"width_factor": 0.5} if name.startswith("rexnet") else {}
    with torch.device("meta"):
        backbone = build_backbone(name, output_stride=output_stride, **settings).eval()
    features = backbone(torch.empty(1, 3, 64, 96, device="meta"))
    assert {feature: shape.channels for feature, shape in backbone.output_shapes.items()} == {
        feature: maps.shape[1] for feature, maps in features.items()
    }
    assert features["c5"].shape[2] == 64 // output_stride
    overrides = ["MODEL.BACKBONE.WIDTH_FACTOR", 0.5] if settings else []
    reference = make(name, "MODEL.BACKBONE.OUTPUT_STRIDE", output_stride, *overrides)
    assert list(backbone.state_dict()) == list(reference.state_dict())


@pytest.mark.parametrize(
    ("name", "settings", "problem"),
    [
        (
            "resnet19",
            {},
            r"^MODEL\.BACKBONE\.NAME must be one of .*resnet18.*Received: MODEL\.BACKBONE\.NAME='resnet19'$",
        ),
        ("rexnet", {"width": 2.0}, r"MODEL\.BACKBONE\.WIDTH"),
        ("rexnet", {"width_factor": "wide"}, r"MODEL\.BACKBONE\.WIDTH_FACTOR"),
        ("rexnet", {"output_stride": 4}, r"^MODEL\.BACKBONE\.OUTPUT_STRIDE must be one of .*OUTPUT_STRIDE=4$"),
        ("mobilenet_v3_small", {"output_stride": 8}, r"must be one of \[16, 32\] with mobilenet_v3_small\."),
    ],
)
def test_unknown_backbones_and_settings(name, settings, problem):
    with pytest.raises(ConfigError, match=problem):
        build_backbone(name, **settings)
