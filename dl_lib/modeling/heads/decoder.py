"""Coarse-to-fine decoder head (arXiv 2003.10401, section 4.1)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from torch.nn.functional import interpolate

from dl_lib.config import CfgNode, configurable
from dl_lib.layers import ShapeSpec, conv2d, conv_norm_act
from dl_lib.modeling.build import SEM_SEG_HEADS_REGISTRY
from dl_lib.modeling.heads.base import SemSegHead

__all__ = ["SemSegDecoderHead"]


@SEM_SEG_HEADS_REGISTRY.register()
class SemSegDecoderHead(SemSegHead):
    """Decoder that sums projected features from the coarsest to the finest and predicts classes from the finest sum.

    A 1×1 convolution projects each sum to the number of channels of the next finer feature; in a routed network, this
    halves the number.

    Args:
        input_shapes: Shape of each feature by name, finest first.
        num_classes: Number of classes.
        norm: Name of the norm.
    """

    @configurable
    def __init__(self, input_shapes: Mapping[str, ShapeSpec], *, num_classes: int, norm: str) -> None:
        shapes = list(input_shapes.values())
        super().__init__(shapes[0].stride)
        self.projections = nn.ModuleDict()
        for name, shape, finer in zip(input_shapes, shapes, [shapes[0], *shapes], strict=False):
            self.projections[name] = conv_norm_act(shape.channels, finer.channels, norm=norm)
        self._strides = {name: shape.stride for name, shape in input_shapes.items()}
        self.predictor = conv2d(shapes[0].channels, num_classes, 3, bias=True)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shapes: Mapping[str, ShapeSpec]) -> dict[str, Any]:
        head = cfg.MODEL.SEM_SEG_HEAD
        return {
            "input_shapes": {name: input_shapes[name] for name in head.IN_FEATURES},
            "num_classes": head.NUM_CLASSES,
            "norm": head.NORM,
        }

    def forward(self, features: Mapping[str, Tensor]) -> Tensor:
        """Return logits (B, num_classes, H / s, W / s) at the stride s of the finest feature."""
        decoded: Tensor | None = None
        decoded_stride = 0
        for name, projection in reversed(list(self.projections.items())):
            feature, stride = features[name], self._strides[name]
            if decoded is not None:
                feature = feature + _upsample(decoded, factor=decoded_stride // stride)
            decoded, decoded_stride = projection(feature), stride
        assert decoded is not None
        return self.predictor(decoded)


def _upsample(x: Tensor, *, factor: int) -> Tensor:
    return x if factor == 1 else interpolate(x, scale_factor=factor, mode="bilinear", align_corners=False)
