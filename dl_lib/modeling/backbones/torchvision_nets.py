"""ResNet and MobileNetV3 backbones built by torchvision, compatible with its weights."""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torchvision.models import MobileNetV3, ResNet, get_model

from dl_lib.config import CfgNode, ConfigError
from dl_lib.layers import ShapeSpec, make_norm
from dl_lib.modeling.backbones.base import FEATURES, Backbone, feature_stride
from dl_lib.modeling.backbones.conv_replacement import adapt_backbone
from dl_lib.modeling.build import BACKBONE_REGISTRY

__all__ = ["TORCHVISION_NETS", "TorchvisionNet"]


@dataclass(frozen=True)
class NetSpec:
    """Specification of a torchvision network.

    Attributes:
        taps: Names of the children that output the features, finest first.
        output_strides: Supported output strides.
        eps: Epsilon of the norms, with which the released weights were trained.
        momentum: Momentum of the batch norms.
    """

    taps: tuple[str, ...]
    output_strides: tuple[int, ...]
    eps: float = 1e-5
    momentum: float = 0.1


_RESNET_TAPS = ("relu", "layer1", "layer2", "layer3", "layer4")
TORCHVISION_NETS: Mapping[str, NetSpec] = {
    "resnet18": NetSpec(_RESNET_TAPS, (32,)),
    "resnet34": NetSpec(_RESNET_TAPS, (32,)),
    "resnet50": NetSpec(_RESNET_TAPS, (8, 16, 32)),
    "resnet101": NetSpec(_RESNET_TAPS, (8, 16, 32)),
    "mobilenet_v3_small": NetSpec(("0", "1", "3", "8", "12"), (16, 32), eps=1e-3, momentum=0.01),
    "mobilenet_v3_large": NetSpec(("1", "3", "6", "12", "16"), (16, 32), eps=1e-3, momentum=0.01),
}


class TorchvisionNet(Backbone):
    """Feature extractor that runs a torchvision network child by child.

    State-dict keys are torchvision's, without MobileNetV3's `features.`, under the prefix `body.`.

    Args:
        body: Children of the network in order.
        taps: Names of the children that output the features, finest first.
        output_stride: Stride of the last feature.
    """

    def __init__(self, body: nn.Sequential, *, taps: tuple[str, ...], output_stride: int) -> None:
        channels = _channels(body, taps=taps)
        shapes = {
            name: ShapeSpec(channels[tap], feature_stride(name, output_stride=output_stride))
            for name, tap in zip(FEATURES, taps, strict=True)
        }
        super().__init__(shapes, stages=_stages(body, taps=taps))
        self.body = body
        self._features = dict(zip(taps, FEATURES, strict=True))

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        features: dict[str, Tensor] = {}
        x = images
        for name, child in self.body.named_children():
            for block in _blocks(child):
                x = self.run_block(block, x)
            if name in self._features:
                features[self._features[name]] = x
        return features


def _blocks(child: nn.Module) -> Iterable[nn.Module]:
    """Return the blocks of a child: those of a ResNet layer, otherwise the child itself."""
    return child if type(child) is nn.Sequential else (child,)


@torch.no_grad()
def _channels(body: nn.Sequential, *, taps: tuple[str, ...]) -> dict[str, int]:
    channels, x = {}, torch.empty(1, 3, 64, 64, device="meta")
    for name, child in copy.deepcopy(body).to("meta").eval().named_children():
        x = child(x)
        if name in taps:
            channels[name] = x.shape[1]
    return channels


def _stages(body: nn.Sequential, *, taps: tuple[str, ...]) -> dict[str, list[str]]:
    """Return the names of the children that compute each feature from the previous one."""
    stages: dict[str, list[str]] = {feature: [] for feature in FEATURES}
    position = 0
    for name, _ in body.named_children():
        stages[FEATURES[position]].append(f"body.{name}")
        position += name in taps
    return stages


def _norm(channels: int, *, name: str, spec: NetSpec) -> nn.Module:
    norm = make_norm(name, channels)
    norm.eps = spec.eps  # type: ignore[assignment]  # every norm has `eps`
    if isinstance(norm, nn.BatchNorm2d):
        norm.momentum = spec.momentum
    return norm


def _body(name: str, *, norm: str, output_stride: int) -> nn.Sequential:
    make = partial(get_model, name, weights=None, norm_layer=partial(_norm, name=norm, spec=TORCHVISION_NETS[name]))
    if name.startswith("mobilenet"):
        network = make(dilated=output_stride < 32)
        assert isinstance(network, MobileNetV3)
        return network.features
    network = make(replace_stride_with_dilation=[False, output_stride <= 8, output_stride <= 16])
    assert isinstance(network, ResNet)
    return nn.Sequential(OrderedDict(child for child in network.named_children() if child[0] not in ("avgpool", "fc")))


def _build(cfg: CfgNode, *, name: str) -> TorchvisionNet:
    backbone, spec = cfg.MODEL.BACKBONE, TORCHVISION_NETS[name]
    if backbone.OUTPUT_STRIDE not in spec.output_strides:
        raise ConfigError(
            f"MODEL.BACKBONE.OUTPUT_STRIDE must be one of {list(spec.output_strides)} with {name}. "
            f"Received: MODEL.BACKBONE.OUTPUT_STRIDE={backbone.OUTPUT_STRIDE}"
        )
    body = _body(name, norm=backbone.NORM, output_stride=backbone.OUTPUT_STRIDE)
    network = TorchvisionNet(body, taps=spec.taps, output_stride=backbone.OUTPUT_STRIDE)
    adapt_backbone(network, cfg)
    return network


for _name in TORCHVISION_NETS:
    BACKBONE_REGISTRY._do_register(_name, partial(_build, name=_name))
