"""Random routes, and routed models whose gates are forced to a route."""

import math

import torch

from dl_lib.modeling.dynamic.lattice import Edge, Move
from dl_lib.modeling.dynamic.route import Route

VALUES = (0.25, 0.5, 1.0)


def random_route(lattice, rng, *, values=(1.0,), learned=0.0):
    """Draw open edges cell by cell, each with a fixed gate value or, with probability `learned`, a learned gate."""
    gates, passes, reached = {}, set(), {lattice.source}
    for node in lattice.nodes:
        if node not in reached:
            continue
        edges = [edge for edge in lattice.edges_from(node) if rng.random() < 0.6]
        for edge in edges:
            gates[edge] = None if rng.random() < learned else rng.choice(values)
        if not edges:
            passes.add(node)
        reached |= {edge.target for edge in edges}
        if all(gates[edge] is None for edge in edges):
            reached.add(Edge(node, Move.KEEP).target)
    return Route(lattice, gates, frozenset(passes))


@torch.no_grad()
def force(model, route):
    """Set the gates of a model with soft or hard gates to the fixed values of a route; learned ones stay."""
    network = model.backbone
    for node in network.route.cells:
        gate = network.cell(node).gate
        for row, edge in enumerate(network.route.edges_from(node)):
            value = route.gates.get(edge, 0.0)
            if value is not None:
                gate.predict.weight[row] = 0
                gate.predict.bias[row] = 20.0 if value == 1 else math.atanh(value) if value else -20.0


def randomize_norms(model):
    """Give norms running statistics and biases with which zeros have nonzero outputs."""
    for module in model.modules():
        if isinstance(module, torch.nn.modules.batchnorm._NormBase):
            torch.nn.init.normal_(module.bias, std=0.3)
            torch.nn.init.uniform_(module.running_var, 0.5, 2)
            torch.nn.init.normal_(module.running_mean, std=0.3)
