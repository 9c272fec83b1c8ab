"""Gates that are forced to a route, for measurements of routes; the gates are still evaluated."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from dl_lib.modeling.dynamic.gate import Gate
from dl_lib.modeling.dynamic.lattice import Edge
from dl_lib.modeling.dynamic.network import DynamicNetwork

__all__ = ["OPEN_BIAS", "SOFT_OPEN_BIAS", "force_gates", "gates_of"]

OPEN_BIAS = 20.0  # its tanh is 1 in float32
SOFT_OPEN_BIAS = 1.0  # its tanh is 0.76, so that feature maps have to be multiplied
_THRESHOLD = 1e-3  # between closed and open: sigmoids and softmaxes are not 0 for closed edges


def gates_of(network: DynamicNetwork) -> dict[Gate, tuple[Edge, ...]]:
    """Return the gates of a network, with the edges that they decide on."""
    route = network.route
    return {
        gate: tuple(edge for edge in route.edges_from(node) if route.gates[edge] is None)
        for node in route.cells
        if (gate := network.cell(node).gate) is not None
    }


@torch.no_grad()
def force_gates(network: DynamicNetwork, is_open: Callable[[Edge], bool], *, bias: float = OPEN_BIAS) -> None:
    """Open the edges for which the function is true, for all images, and close the others.

    The gates lose their weights and biases, and low thresholds are raised. A softmax gate cannot close all edges of a
    cell, and leaves them open instead.

    Args:
        network: Network whose gates are changed.
        is_open: Function from an edge to whether it is open.
        bias: Logit of open gates; the value of a soft gate is its tanh.
    """
    for gate, edges in gates_of(network).items():
        assert gate.predict.bias is not None
        gate.threshold = max(gate.threshold, _THRESHOLD)
        nn.init.zeros_(gate.predict.weight)
        gate.predict.bias.copy_(torch.tensor([bias if is_open(edge) else -OPEN_BIAS for edge in edges]))
