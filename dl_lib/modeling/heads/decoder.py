"""The decoder head: from coarse to fine. arXiv 2003.10401, section 4.1."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn
from torch.nn.functional import interpolate

from dl_lib.config import CfgNode, configurable
from dl_lib.layers import conv2d, conv_norm_act
from dl_lib.modeling.dynamic.lattice import FINEST_STRIDE
from dl_lib.modeling.registries import SEM_SEG_HEADS_REGISTRY

__all__ = ["SemSegDecoderHead"]


@SEM_SEG_HEADS_REGISTRY.register()
class SemSegDecoderHead(nn.Module):
    """Adds up projected features from the coarsest to the finest, and predicts the classes at stride 4.

    Args:
        in_channels: channels of each feature, by its name, finest (stride 4) first.
        num_classes: classes to tell apart.
        norm: name of the norm.
    """

    @configurable
    def __init__(self, in_channels: dict[str, int], *, num_classes: int, norm: str) -> None:
        super().__init__()
        self.projections = nn.ModuleDict()
        for position, (name, channels) in enumerate(in_channels.items()):
            self.projections[name] = conv_norm_act(channels, channels // 2 if position else channels, norm=norm)
        self.upsample = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False)
        self.predictor = conv2d(next(iter(in_channels.values())), num_classes, 3, bias=True)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        head = cfg.MODEL.SEM_SEG_HEAD
        return {
            "in_channels": {
                name: cfg.MODEL.BACKBONE.INIT_CHANNEL << scale for scale, name in enumerate(head.IN_FEATURES)
            },
            "num_classes": head.NUM_CLASSES,
            "norm": head.NORM,
        }

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Logits (B, num_classes, H / 4, W / 4) for features of stride 4, 8, …, finest first."""
        decoded: Tensor | None = None
        for projection, feature in zip(reversed(list(self.projections.values())), reversed(features), strict=True):
            if decoded is not None:
                feature = feature + self.upsample(decoded)
            decoded = projection(feature)
        assert decoded is not None
        return self.predictor(decoded)

    @staticmethod
    def to_input_size(logits: Tensor) -> Tensor:
        """Bilinear from stride 4 to the size of the images."""
        return interpolate(logits, scale_factor=FINEST_STRIDE, mode="bilinear", align_corners=False)
