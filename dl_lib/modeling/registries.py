"""The registries that configs choose from, with what their members promise."""

from __future__ import annotations

from fvcore.common.registry import Registry

__all__ = ["BACKBONE_REGISTRY", "META_ARCH_REGISTRY", "SEM_SEG_HEADS_REGISTRY"]

META_ARCH_REGISTRY = Registry("META_ARCH")
META_ARCH_REGISTRY.__doc__ = """`MODEL.META_ARCHITECTURE`: made as `cls(cfg)`.

Called with a list of dicts and `step_rate`; returns `(losses, flops)` in training and a list of dicts in evaluation.
`TEST.SLIDING` and `TEST.MULTI_SCALE` also need its `predict_coarse`, see `DynamicNet4Seg`.
"""

BACKBONE_REGISTRY = Registry("BACKBONE")
BACKBONE_REGISTRY.__doc__ = """`MODEL.BACKBONE.NAME`: made as `cls(cfg)`.

`DynamicNet4Seg` needs a routed one, with the interface of `DynamicNetwork`: called with images (B, 3, H, W),
`step_rate` and `observer`, it returns features and a `Routing`.
"""

SEM_SEG_HEADS_REGISTRY = Registry("SEM_SEG_HEADS")
SEM_SEG_HEADS_REGISTRY.__doc__ = """`MODEL.SEM_SEG_HEAD.NAME`: made as `cls(cfg)`.

Called with the features, finest (stride 4) first; returns logits (B, classes, H / 4, W / 4). `to_input_size(logits)`
brings them to the size of the images.
"""
