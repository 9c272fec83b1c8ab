"""ReXNet image classifier, the model of the published weights (arXiv 2007.00992)."""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor, nn

from dl_lib.modeling.backbones.rex_block import conv_norm
from dl_lib.modeling.backbones.rexnet import ReXNet
from dl_lib.modeling.backbones.rexnet_plan import plan_rexnet

__all__ = ["ReXNetClassifier"]

LITE_HIDDEN = 1024  # channels of ReXNet-lite's additional layer before the classifier


class ReXNetClassifier(nn.Module):
    """ReXNet image classifier.

    `Checkpointer(model).load` reads weights of the public repository and of timm.

    Args:
        num_classes: Number of classes.
        width: Width multiplier (channels).
        depth: Depth multiplier (blocks).
        lite: Build ReXNet-lite.
        norm: Name of the norms.
        dropout: Dropout probability before the last layer.
    """

    def __init__(
        self,
        num_classes: int = 1000,
        *,
        width: float = 1.0,
        depth: float = 1.0,
        lite: bool = False,
        norm: str = "BN",
        dropout: float = 0.2,
    ) -> None:
        super().__init__()
        plan = plan_rexnet(width=width, depth=depth, lite=lite)
        self.backbone = ReXNet(plan, norm=norm, squeeze_norm=norm)
        last, channels = plan.blocks[-1].out_channels, plan.penultimate
        act = nn.ReLU6(inplace=True) if lite else nn.SiLU(inplace=True)
        parts: OrderedDict[str, nn.Module] = OrderedDict(
            expand=conv_norm(last, channels, norm=norm, act=act), pool=nn.AdaptiveAvgPool2d(1)
        )
        if lite:
            hidden = conv_norm(channels, LITE_HIDDEN, norm=norm, act=nn.ReLU6(inplace=True))
            hidden.conv = nn.Conv2d(channels, LITE_HIDDEN, 1)  # with bias, as in the published weights
            parts["hidden"], channels = hidden, LITE_HIDDEN
        parts["dropout"] = nn.Dropout(dropout)
        parts["classifier"] = nn.Conv2d(channels, num_classes, 1)
        self.head = nn.Sequential(parts)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (B, num_classes) for images (B, 3, H, W)."""
        return self.head(self.backbone(images)["c5"]).flatten(1)
