"""What is known of a feature map before there is one."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["ShapeSpec"]


@dataclass(frozen=True)
class ShapeSpec:
    """Maps (B, channels, H / stride, W / stride) of images (B, 3, H, W)."""

    channels: int
    stride: int
