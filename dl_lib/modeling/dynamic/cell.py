"""Cell of the lattice: operation, gate, and one transition per outgoing edge (arXiv 2003.10401)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from dl_lib.layers import conv_norm_act
from dl_lib.modeling.dynamic.gate import Gate
from dl_lib.modeling.dynamic.lattice import Edge, Move
from dl_lib.modeling.dynamic.ops import CellOperation
from dl_lib.modeling.dynamic.route import may_close

__all__ = ["Cell"]


class Cell(nn.Module):
    """Modules of a cell; `dense_execution`, `sparse_execution` and `fixed_execution` run them.

    Args:
        channels: Channels C of the cell's input.
        edges: Outgoing edges, in the order of the gate values.
        cell_types: Names of the operations whose outputs are summed.
        norm: Name of the norm.
        gate: Learned gate with one value per edge without a fixed value; None if all edges have one.
        fixed_gates: Fixed gate value of each edge; None for an edge whose value is learned.

    Attributes:
        operation: (B, C, H, W) -> same shape.
        gate: (B, C, H, W) -> (B, number of edges without a fixed value), or None if all values are fixed.
        transitions: Transition of each edge by the name of its move, on the result of `activated`; keep: (B, C, H, W),
            up: (B, C / 2, 2H, 2W), down: (B, 2C, H / 2, W / 2).
        has_fused_relu: Whether the operation applies the ReLU of the transitions itself (`dl_lib.inference.optimize`).
    """

    has_fused_relu = False

    def __init__(
        self,
        channels: int,
        *,
        edges: Sequence[Edge],
        cell_types: Sequence[str],
        norm: str,
        gate: Gate | None,
        fixed_gates: Sequence[float | None],
    ) -> None:
        super().__init__()
        self.fixed_gates = tuple(fixed_gates)
        self.operation = CellOperation(channels, cell_types=cell_types, norm=norm)
        self.gate = gate
        self.transitions = nn.ModuleDict(
            {str(edge.move): _transition(edge.move, channels, norm=norm) for edge in edges}
        )

    @property
    def may_close(self) -> bool:
        """True if the cell can be closed and pass its input on: without a fixed gate."""
        return may_close(self.fixed_gates)

    def activated(self, x: Tensor, *, drop_prob: Tensor | None = None) -> Tensor:
        """Return the ReLU of the operation's output (B, C, H, W), with which all transitions start.

        Arguments are those of `CellOperation`. The result shares no memory with `x`.
        """
        h: Tensor = self.operation(x, drop_prob=drop_prob)
        if self.has_fused_relu:
            return h
        return torch.relu(h) if torch.is_grad_enabled() else torch.relu_(h)


class _TransitionReLU(nn.ReLU):
    """ReLU at the start of a transition, which the cell has computed once for all; the paper counts one for each."""

    def forward(self, x: Tensor) -> Tensor:
        return x


def _transition(move: Move, channels: int, *, norm: str) -> nn.Module:
    relu = _TransitionReLU()
    if move is Move.KEEP:
        return relu
    if move is Move.DOWN:
        return nn.Sequential(OrderedDict(relu=relu, **_named_conv(channels, 2 * channels, stride=2, norm=norm)))
    upsample = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False)
    return nn.Sequential(
        OrderedDict(relu=relu, **_named_conv(channels, channels // 2, stride=1, norm=norm), upsample=upsample)
    )


def _named_conv(in_channels: int, out_channels: int, *, stride: int, norm: str) -> dict[str, nn.Module]:
    return dict(conv_norm_act(in_channels, out_channels, stride=stride, norm=norm).named_children())
