"""What a static network costs, found out without running it."""

from __future__ import annotations

from functools import cached_property

import torch
from torch import nn

from dl_lib.modeling.backbones.base import Backbone
from dl_lib.modeling.costs.counters import MaddsObserver
from dl_lib.modeling.costs.meta_copy import meta_copy

__all__ = ["StaticCosts"]


class StaticCosts:
    """Multiply-adds of a backbone and its head, counted on the meta device when a size is first asked for."""

    def __init__(self, backbone: Backbone, head: nn.Module) -> None:
        self._backbone, self._head = backbone, head
        self._madds: dict[tuple[int, int], int] = {}

    def madds(self, height: int, width: int) -> int:
        """Of one image of this size in pixels, in evaluation."""
        size = (height, width)
        if size not in self._madds:
            backbone, head = self._meta_copies
            dtype = next(backbone.parameters()).dtype
            with torch.no_grad(), MaddsObserver(num_images=1) as observer:
                head(backbone(torch.empty(1, 3, *size, device="meta", dtype=dtype)))
            self._madds[size] = observer.madds[0]
        return self._madds[size]

    @cached_property
    def _meta_copies(self) -> tuple[Backbone, nn.Module]:
        return meta_copy(self._backbone), meta_copy(self._head)
