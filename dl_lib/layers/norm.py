"""Registry of normalization layers for `NORM` config keys."""

from __future__ import annotations

import math

from torch import nn
from torchvision.ops import FrozenBatchNorm2d

from dl_lib.layers.sync_batch_norm import SyncBatchNorm2d
from dl_lib.utils.names import nearest_names

__all__ = ["BATCH_NORMS", "MAX_GROUPS", "NORMS", "SYNCHRONIZED_NORMS", "make_norm"]

MAX_GROUPS = 32  # of GN


def _group_norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(math.gcd(MAX_GROUPS, channels), channels)


NORMS = {
    "BN": nn.BatchNorm2d,
    "SyncBN": SyncBatchNorm2d,
    "nnSyncBN": SyncBatchNorm2d,  # name in the published configs
    "FrozenBN": FrozenBatchNorm2d,
    "GN": _group_norm,
}
SYNCHRONIZED_NORMS = ("SyncBN", "nnSyncBN")  # normalize over the batch of all processes
BATCH_NORMS = ("BN", *SYNCHRONIZED_NORMS)  # normalize over the batch; their state dicts are interchangeable


def make_norm(name: str, channels: int) -> nn.Module:
    """Build a normalization layer of `NORMS` for feature maps (B, channels, H, W).

    GN has gcd(`MAX_GROUPS`, channels) groups.

    Raises:
        KeyError: If the name does not exist.
    """
    if name not in NORMS:
        raise KeyError(f"unknown norm; {nearest_names(name, NORMS)}. Received: name={name!r}")
    return NORMS[name](channels)
