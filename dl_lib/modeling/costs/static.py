"""Costs of static networks, measured on the meta device."""

from __future__ import annotations

from functools import cached_property

import torch
from torch import nn

from dl_lib.modeling.backbones.base import Backbone
from dl_lib.modeling.costs.counters import measure_madds
from dl_lib.modeling.costs.meta_copy import meta_copy

__all__ = ["StaticCosts"]


class StaticCosts:
    """Multiply-adds of a static backbone and the head on its features, measured once per input size."""

    def __init__(self, backbone: Backbone, head: nn.Module) -> None:
        self._backbone, self._head = backbone, head
        self._madds: dict[tuple[int, int], int] = {}

    def madds(self, height: int, width: int) -> int:
        """Return the multiply-adds of one image of this size in pixels, in evaluation mode."""
        size = (height, width)
        if size not in self._madds:
            backbone, head = self._meta_copies
            image = torch.empty(1, 3, *size, device="meta", dtype=next(backbone.parameters()).dtype)
            self._madds[size] = measure_madds(lambda x: head(backbone(x)), image)
        return self._madds[size]

    @cached_property
    def _meta_copies(self) -> tuple[Backbone, nn.Module]:
        return meta_copy(self._backbone), meta_copy(self._head)
