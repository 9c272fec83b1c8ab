"""Stages of a backbone that do not learn."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn
from torchvision.ops import FrozenBatchNorm2d

from dl_lib.modeling.backbones.base import Backbone

__all__ = ["freeze"]


def freeze(backbone: Backbone, *, stages: Sequence[str]) -> None:
    """Keeps the parameters of some stages as they are, and the statistics of their batch norms.

    Batch norms are replaced by frozen ones, which load the same weights by the same names.

    Raises:
        ConfigError: if there is no such stage.
    """
    for stage in stages:
        for name, module in list(backbone.stage(stage)):
            for parameter in module.parameters(recurse=False):
                parameter.requires_grad = False
            if isinstance(module, nn.BatchNorm2d):
                parent, _, child = name.rpartition(".")
                setattr(backbone.get_submodule(parent), child, _frozen(module))


def _frozen(norm: nn.BatchNorm2d) -> FrozenBatchNorm2d:
    frozen = FrozenBatchNorm2d(norm.num_features, eps=norm.eps)
    values = norm.state_dict()
    values.pop("num_batches_tracked", None)
    frozen.load_state_dict(values)
    return frozen.to(norm.weight.device)
