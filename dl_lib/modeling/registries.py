"""The registries that configs choose from, with what their members promise."""

from __future__ import annotations

from fvcore.common.registry import Registry

__all__ = ["BACKBONE_REGISTRY", "META_ARCH_REGISTRY", "SEM_SEG_HEADS_REGISTRY"]

META_ARCH_REGISTRY = Registry("META_ARCH")
META_ARCH_REGISTRY.__doc__ = """`MODEL.META_ARCHITECTURE`: made as `cls(cfg)`.

Called with a list of dicts and `step_rate`; returns `(losses, logged)` in training and a list of dicts in evaluation.
`SegmentationModel` has what they have in common.
"""

BACKBONE_REGISTRY = Registry("BACKBONE")
BACKBONE_REGISTRY.__doc__ = """`MODEL.BACKBONE.NAME`: made as `cls(cfg)`.

Called with images (B, 3, H, W) whose sides `size_divisor` divides; `output_shapes` has a `ShapeSpec` for each feature,
by name, finest first. `SemanticSegmentor` needs a static one, a `Backbone`; `DynamicNet4Seg` a routed one, with the
interface of `DynamicNetwork`: it takes `step_rate` and `observer`, too, and returns features by name and a `Routing`.
"""

SEM_SEG_HEADS_REGISTRY = Registry("SEM_SEG_HEADS")
SEM_SEG_HEADS_REGISTRY.__doc__ = """`MODEL.SEM_SEG_HEAD.NAME`: made as `cls(cfg, input_shapes)`; a `SemSegHead`."""
