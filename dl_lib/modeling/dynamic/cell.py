"""A cell of the lattice: its operation, its gate, and one transition for each way out."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from dl_lib.layers import conv_norm_act
from dl_lib.modeling.dynamic.gate import SoftGate
from dl_lib.modeling.dynamic.lattice import Edge, Move
from dl_lib.modeling.dynamic.ops import CellOperation

__all__ = ["Cell"]


class Cell(nn.Module):
    """The parts of a cell; how they are run is the business of `execution`.

    Attributes:
        operation: (B, C, H, W) -> same shape.
        gate: (B, C, H, W) -> (B, number of edges), or None where the routing is fixed.
        transitions: by name of the move; keep (B, C, H, W), up (B, C / 2, 2H, 2W), down (B, 2C, H / 2, W / 2).

    Args:
        channels: channels C of the cell's input.
        edges: the ways out, in the order of the gates.
        cell_types: names of the operations that are summed up.
        norm: name of the norm.
        gate: the gate, with one value for each edge; None fixes all of them at one.
    """

    def __init__(
        self, channels: int, *, edges: Sequence[Edge], cell_types: Sequence[str], norm: str, gate: SoftGate | None
    ) -> None:
        super().__init__()
        self.operation = CellOperation(channels, cell_types=cell_types, norm=norm)
        self.gate = gate
        self.transitions = nn.ModuleDict(
            {str(edge.move): _transition(edge.move, channels, norm=norm) for edge in edges}
        )


class _Rectify(nn.ReLU):
    """The ReLU that every transition of a cell begins with.

    Without gradients it works in place: for the second transition of a cell it then runs on what it already rectified.
    """

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x) if torch.is_grad_enabled() else torch.relu_(x)


def _transition(move: Move, channels: int, *, norm: str) -> nn.Module:
    relu = _Rectify()
    if move is Move.KEEP:
        return relu
    if move is Move.DOWN:
        return nn.Sequential(OrderedDict(relu=relu, **_parts(channels, 2 * channels, stride=2, norm=norm)))
    upsample = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False)
    return nn.Sequential(
        OrderedDict(relu=relu, **_parts(channels, channels // 2, stride=1, norm=norm), upsample=upsample)
    )


def _parts(in_channels: int, out_channels: int, *, stride: int, norm: str) -> dict[str, nn.Module]:
    return dict(conv_norm_act(in_channels, out_channels, stride=stride, norm=norm).named_children())
