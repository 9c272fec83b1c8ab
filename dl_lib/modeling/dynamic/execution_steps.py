"""Steps that the ways of executing a routed network share.

Shape suffixes: B images, E edges, G gates of one cell.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import Tensor

from dl_lib.modeling.activation_checkpointing import checkpointed
from dl_lib.modeling.dynamic.lattice import Node
from dl_lib.modeling.dynamic.route import CLOSED_BELOW
from dl_lib.utils.cached_tensors import cached_tensor

if TYPE_CHECKING:
    from dl_lib.modeling.dynamic.cell import Cell
    from dl_lib.modeling.dynamic.network import DynamicNetwork

__all__ = [
    "add",
    "all_edges",
    "close_gates",
    "outputs",
    "per_image",
    "run_checkpointed",
    "with_fixed",
    "zeros",
]

Target = TypeVar("Target", int, Node)
Result = TypeVar("Result")


def with_fixed(cell: Cell, learned: Tensor | None, *, num_images: int, like: Tensor) -> Tensor:
    """Return the gate values (B, G) of a cell.

    Args:
        cell: Cell with G gates.
        learned: Output of its learned gate; None without one.
        num_images: B.
        like: Tensor on the device of the result. Fixed values have at least its precision and float32.
    """
    if learned is not None and learned.shape[1] == len(cell.fixed_gates):
        return learned
    dtype = torch.promote_types(like.dtype, torch.float32) if learned is None else learned.dtype
    values = tuple(0.0 if value is None else value for value in cell.fixed_gates)
    gates = cached_tensor(values, dtype=dtype, like=like).expand(num_images, -1)
    if learned is None:
        return gates
    columns = tuple(column for column, value in enumerate(cell.fixed_gates) if value is None)
    return gates.index_copy(1, cached_tensor(columns, dtype=torch.int64, like=like), learned)


def close_gates(gates_BG: Tensor) -> Tensor:
    """Return the gate values of a cell, all 0 for images whose sum is below `CLOSED_BELOW`."""
    sum_B = gates_BG.sum(dim=1)
    # Not multiplying zeros by zero keeps the gradients by which hard gates of a closed cell can open again.
    return gates_BG * ((sum_B >= CLOSED_BELOW) | (sum_B == 0))[:, None]


def add(inputs: dict[Target, Tensor], target: Target, y: Tensor, gate_B: Tensor) -> None:
    """Add feature maps (B, C, H, W), times the gate value of each image, to the input of a target."""
    weight = per_image(gate_B, y)
    if target in inputs:
        inputs[target].addcmul_(y, weight)
    else:
        inputs[target] = y * weight


def per_image(weight_B: Tensor, y: Tensor) -> Tensor:
    """Return weights (B, 1, 1, 1) with the dtype of feature maps."""
    return weight_B.to(y.dtype)[:, None, None, None]


def all_edges(network: DynamicNetwork, gates_BG: Sequence[Tensor]) -> Tensor:
    """Return gate values (B, E) of all edges of the lattice from those of the route's cells; zeros for other edges."""
    gates, edges = torch.cat([*gates_BG], dim=1), network.lattice.edges
    if gates.shape[1] == len(edges):
        return gates
    index = cached_tensor(network.route.columns, dtype=torch.int64, like=gates)
    return gates.new_zeros(gates.shape[0], len(edges)).index_copy(1, index, gates)


def outputs(network: DynamicNetwork, inputs: Mapping[int, Tensor], *, like: Tensor) -> list[Tensor]:
    """Return the lattice's outputs, finest first; zeros for those that the route does not reach."""
    return [
        inputs[node.scale] if node.scale in inputs else zeros(network, node, like=like)
        for node in network.lattice.outputs
    ]


def zeros(network: DynamicNetwork, node: Node, *, like: Tensor) -> Tensor:
    """Return an input of a node for the images of `like`, an input of the source cell."""
    images, _, height, width = like.shape
    shape = (images, network.channels(node), height >> node.scale, width >> node.scale)
    empty = torch.empty(shape, dtype=like.dtype, device=like.device, memory_format=_memory_format(like))
    return empty.zero_()


def _memory_format(x: Tensor) -> torch.memory_format:
    return torch.channels_last if x.is_contiguous(memory_format=torch.channels_last) else torch.contiguous_format


def run_checkpointed(
    network: DynamicNetwork, layer: Sequence[Node], run_layer: Callable[..., Result], *arguments: Mapping[int, Tensor]
) -> Result:
    """Return the result of a layer, with activation checkpointing if the network uses it."""
    if not (network.activation_checkpointing and torch.is_grad_enabled()):
        return run_layer(*arguments)
    cells = [network.cell(node) for node in layer if network.route.edges_from(node)]
    return checkpointed(run_layer, *arguments, modules=cells)
