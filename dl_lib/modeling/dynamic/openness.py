"""How open the lattice is, scale by scale."""

from __future__ import annotations

import torch
from torch import Tensor

from dl_lib.modeling.dynamic.lattice import Lattice
from dl_lib.utils.cached_tensors import cached_tensor

__all__ = ["gate_openness"]


def gate_openness(lattice: Lattice, gates_BE: Tensor) -> dict[str, Tensor]:
    """Mean gate value of the ways out of the cells of each scale, 0-d, without gradients.

    Args:
        lattice: that is routed through.
        gates_BE: gate values of B images; columns in the order of `lattice.edges`.

    Returns:
        By names such as `gate_stride_4`, finest scale first.
    """
    mean_E = gates_BE.detach().mean(dim=0)
    columns: dict[int, list[int]] = {}
    for column, edge in enumerate(lattice.edges):
        columns.setdefault(edge.source.stride, []).append(column)
    return {
        f"gate_stride_{stride}": mean_E[cached_tensor(tuple(columns[stride]), dtype=torch.int64, like=mean_E)].mean()
        for stride in sorted(columns)
    }
