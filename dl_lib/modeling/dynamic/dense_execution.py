"""Dense execution: every module runs for every image, as training requires (arXiv 2003.10401, section 3).

Shape suffixes: B images, E edges, N nodes, G gates of one cell.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from dl_lib.modeling.dynamic.execution_steps import add, all_edges, close_gates, outputs, run_checkpointed, with_fixed
from dl_lib.modeling.dynamic.lattice import Node
from dl_lib.modeling.dynamic.routing import Routing, delivering

if TYPE_CHECKING:
    from dl_lib.modeling.dynamic.cell import Cell
    from dl_lib.modeling.dynamic.network import DynamicNetwork

__all__ = ["run_dense"]


def run_dense(
    network: DynamicNetwork, x: Tensor, *, drop_prob_at: Callable[[Node], Tensor | None]
) -> tuple[list[Tensor], Routing]:
    """Run every module for every image; zero gates cancel the outputs of closed cells and edges.

    Args:
        network: Network whose cells are run.
        x: Input (B, C, H, W) of the source cell.
        drop_prob_at: Function from a node to the drop-path probability of its operations.

    Returns:
        The lattice's outputs, finest first, and the routing.
    """
    source, scale = x, network.lattice.source.scale
    inputs, reached = {scale: x}, {scale: torch.ones(x.shape[0], dtype=torch.bool, device=x.device)}
    gates_BG, reached_BN = [], []
    for layer in network.lattice.layers:
        run_layer = partial(_run_layer, network, layer, drop_prob_at=drop_prob_at)
        result = run_checkpointed(network, layer, run_layer, inputs, reached)
        inputs, reached = result.inputs, result.reached
        gates_BG += result.gates_BG
        reached_BN += result.cells_reached
    routing = Routing(network.lattice, all_edges(network, gates_BG), torch.stack(reached_BN, dim=1))
    return outputs(network, inputs, like=source), routing


class _LayerResult(NamedTuple):
    """Result of a layer; a tuple, because activation checkpointing finds tensors in tuples but not in dataclasses.

    Attributes:
        inputs: Inputs of the next layer's cells, by scale.
        reached: Images that reach the next layer's cells, by scale.
        gates_BG: Gate values of each cell of the route.
        cells_reached: Images that reach each cell of the lattice.
    """

    inputs: dict[int, Tensor]
    reached: dict[int, Tensor]
    gates_BG: list[Tensor]
    cells_reached: list[Tensor]


def _run_layer(
    network: DynamicNetwork,
    layer: Sequence[Node],
    inputs: Mapping[int, Tensor],
    reached: Mapping[int, Tensor],
    *,
    drop_prob_at: Callable[[Node], Tensor | None],
) -> _LayerResult:
    """Run the cells of one layer on their inputs."""
    result = _LayerResult({}, {}, [], [])  # by scale: torch 2.6 cannot compile keys that are objects
    for node in layer:
        delivered_B = reached.get(node.scale)
        if delivered_B is None:  # the route does not contain the cell
            result.cells_reached.append(torch.zeros_like(next(iter(reached.values()))))
        elif network.route.edges_from(node):
            _run_cell(network, node, inputs[node.scale], delivered_B, result, drop_prob=drop_prob_at(node))
        else:
            result.cells_reached.append(delivered_B)
            _bypass(result, node.scale, inputs[node.scale], delivered_B)
    return result


def _run_cell(
    network: DynamicNetwork,
    node: Node,
    x: Tensor,
    delivered_B: Tensor,
    result: _LayerResult,
    *,
    drop_prob: Tensor | None,
) -> None:
    """Run a cell and add its outputs to the result of its layer."""
    cell = network.cell(node)
    reached_B = torch.ones_like(delivered_B) if network.unreached.runs(training=network.training) else delivered_B
    gates = close_gates(_gate_values(cell, x) * reached_B[:, None])
    open_B = gates.any(dim=1)
    h = cell.activated(x, drop_prob=drop_prob)
    for gate_B, edge in zip(gates.unbind(dim=1), network.route.edges_from(node), strict=True):
        scale = edge.target.scale
        add(result.inputs, scale, cell.transitions[str(edge.move)](h), gate_B)
        _add_reached(result, scale, delivering(gate_B > 0, open_B, network.unreached))
    if cell.may_close:
        _bypass(result, node.scale, x, reached_B & ~open_B)
    result.gates_BG.append(gates)
    result.cells_reached.append(reached_B)


def _gate_values(cell: Cell, x: Tensor) -> Tensor:
    return with_fixed(cell, None if cell.gate is None else cell.gate(x), num_images=x.shape[0], like=x)


def _bypass(result: _LayerResult, scale: int, x: Tensor, bypass_B: Tensor) -> None:
    """Pass the input of closed cells on to the next layer at the same scale."""
    # Testing for closed cells avoids the addition; on a GPU the test would synchronize with the host.
    cannot_test = bypass_B.device.type != "cpu" or torch.compiler.is_compiling()
    if cannot_test or scale not in result.inputs or bypass_B.any():
        add(result.inputs, scale, x, bypass_B)
    _add_reached(result, scale, bypass_B)


def _add_reached(result: _LayerResult, scale: int, delivers_B: Tensor) -> None:
    before_B = result.reached.get(scale)
    result.reached[scale] = delivers_B if before_B is None else before_B | delivers_B
