"""Execution of a network without learned gates, whose images all take the same route."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from dl_lib.modeling.dynamic.execution_steps import outputs, run_checkpointed
from dl_lib.modeling.dynamic.lattice import Node
from dl_lib.modeling.dynamic.routing import Routing

if TYPE_CHECKING:
    from dl_lib.modeling.dynamic.network import DynamicNetwork

__all__ = ["run_fixed"]


def run_fixed(
    network: DynamicNetwork, x: Tensor, *, drop_prob_at: Callable[[Node], Tensor | None]
) -> tuple[list[Tensor], Routing]:
    """Run a network without learned gates, whose images all take the same route.

    Arguments and results are those of `run_dense`.
    """
    source, inputs = x, {network.lattice.source.scale: x}
    for layer in network.lattice.layers:
        run_layer = partial(_run_fixed_layer, network, layer, drop_prob_at=drop_prob_at)
        inputs = run_checkpointed(network, layer, run_layer, inputs)
    return outputs(network, inputs, like=source), Routing.of_route(
        network.route, num_images=source.shape[0], like=source
    )


def _run_fixed_layer(
    network: DynamicNetwork,
    layer: Sequence[Node],
    inputs: Mapping[int, Tensor],
    *,
    drop_prob_at: Callable[[Node], Tensor | None],
) -> dict[int, Tensor]:
    """Return the inputs of the next layer's cells by scale."""
    next_inputs: dict[int, Tensor] = {}
    for node in layer:
        edges = network.route.edges_from(node)
        if edges:
            cell = network.cell(node)
            h = cell.activated(inputs[node.scale], drop_prob=drop_prob_at(node))
            delivered = {edge.target.scale: cell.transitions[str(edge.move)](h) for edge in edges}
            values: Sequence[float | None] = cell.fixed_gates
        elif network.route.passes_on(node):
            delivered, values = {node.scale: inputs[node.scale]}, (1.0,)
        else:
            continue
        for (scale, y), value in zip(delivered.items(), values, strict=True):
            # In place only without autograd, and after all transitions of the cell, since keep returns their input.
            if value != 1:
                y = y * value if torch.is_grad_enabled() else y.mul_(value)
            if scale not in next_inputs:
                next_inputs[scale] = y
            elif torch.is_grad_enabled():
                next_inputs[scale] = next_inputs[scale] + y
            else:
                next_inputs[scale] += y
    return next_inputs
