"""What every segmentation head promises."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping

from torch import Tensor, nn
from torch.nn.functional import interpolate

__all__ = ["SemSegHead"]


class SemSegHead(nn.Module, ABC):
    """Features to logits.

    Args:
        stride: of the logits.
    """

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride = stride

    @abstractmethod
    def forward(self, features: Mapping[str, Tensor]) -> Tensor:
        """Logits (B, num_classes, H / stride, W / stride) for features by their names."""

    def to_input_size(self, logits: Tensor) -> Tensor:
        """Bilinear from the logits' stride to the size of the images."""
        return interpolate(logits, scale_factor=self.stride, mode="bilinear", align_corners=False)
