"""Networks of segmentation_models_pytorch as models of this library: same data, losses, optimizer and evaluation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from dl_lib.config import CfgNode
from dl_lib.layers import ShapeSpec
from dl_lib.modeling import Backbone, SemanticSegmentor, SemSegHead


@dataclass(frozen=True)
class SmpModel:
    """Network of segmentation_models_pytorch: title, class and arguments."""

    title: str
    architecture: str
    arguments: Mapping[str, Any]


# With the first three default widths of the decoder, the network of depth 3 would cost 3.05 instead of 0.45 GFLOPs at
# 96x96. MobileNetV2 is the lightest common encoder of DeepLabV3+.
SMP_MODELS: Mapping[str, SmpModel] = {
    "unet-resnet18": SmpModel(
        "U-Net, ResNet-18",
        "Unet",
        {"encoder_name": "resnet18", "encoder_depth": 3, "decoder_channels": (64, 32, 16)},
    ),
    "unet-mobilenet_v2": SmpModel("U-Net, MobileNetV2", "Unet", {"encoder_name": "mobilenet_v2"}),
    "deeplabv3plus-mobilenet_v2": SmpModel(
        "DeepLabV3+, MobileNetV2", "DeepLabV3Plus", {"encoder_name": "mobilenet_v2"}
    ),
}


class SmpBackbone(Backbone):
    """Encoder and decoder of a network of segmentation_models_pytorch.

    Args:
        network: Network; its last stages that no decoder uses are part of it, but not executed.
    """

    def __init__(self, network: nn.Module) -> None:
        head = network.segmentation_head[0]
        super().__init__({"decoder": ShapeSpec(head.in_channels, 1)}, stages={})
        self.encoder, self.decoder = network.encoder, network.decoder

    @property
    def size_divisor(self) -> int:
        return self.encoder.output_stride

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Return the output of the decoder."""
        return {"decoder": self.decoder(self.encoder(images))}


class SmpHead(SemSegHead):
    """Segmentation head of a network of segmentation_models_pytorch, with logits at the size of the image."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__(stride=1)
        self.layers = network.segmentation_head

    def forward(self, features: Mapping[str, Tensor]) -> Tensor:
        return self.layers(features["decoder"])


def build_smp_network(name: str, *, num_classes: int) -> nn.Module:
    """Build the network of `SMP_MODELS` with random weights."""
    import segmentation_models_pytorch as smp  # an optional dependency

    model = SMP_MODELS[name]
    return getattr(smp, model.architecture)(encoder_weights=None, classes=num_classes, **model.arguments)


def build_smp_model(cfg: CfgNode, name: str) -> SemanticSegmentor:
    """Build the network of `SMP_MODELS` with normalization and losses of a config."""
    network = build_smp_network(name, num_classes=cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES)
    backbone = SmpBackbone(network)
    common = SemanticSegmentor.common_arguments(cfg, backbone.output_shapes)
    return SemanticSegmentor(backbone, sem_seg_head=SmpHead(network), **common)
