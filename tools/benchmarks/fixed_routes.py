"""Fixed routes: sets of edges of the lattice as data, and a static network that executes only these edges.

A cell that is reached but has no edge on the route passes its input on along keep, like a closed cell of the routed
network.
"""

from __future__ import annotations

import functools
import random
from collections.abc import Collection, Mapping

import torch
from torch import Tensor, nn

from dl_lib.config import CfgNode
from dl_lib.modeling import SEM_SEG_HEADS_REGISTRY, Backbone, DynamicNetwork, SemanticSegmentor
from dl_lib.modeling.costs.table import CostTable
from dl_lib.modeling.dynamic.lattice import Edge, Lattice, Move, Node

Route = frozenset[Edge]

FREQUENT = 0.5  # a frequent edge is open for more than this fraction of the images
TOLERANCE = 0.05  # relative, of the cost of a random route
MAX_DRAWS = 50_000  # a few seconds for 29 edges


class UnavailableError(Exception):
    """Run that cannot be trained, with the reason."""


def frequent_route(lattice: Lattice, open_fractions: Mapping[str, float]) -> Route:
    """Return the edges that are open for more than `FREQUENT` of the images, as far as the source reaches them."""
    return reached_edges(lattice, [edge for edge in lattice.edges if open_fractions[str(edge)] > FREQUENT])


def reached_edges(lattice: Lattice, edges: Collection[Edge]) -> Route:
    """Return the edges whose cells receive an input."""
    nodes = reached_nodes(lattice, edges)
    return frozenset(edge for edge in edges if edge.source in nodes)


def reached_nodes(lattice: Lattice, edges: Collection[Edge]) -> frozenset[Node]:
    """Return the cells and outputs that receive an input, also from cells that pass theirs on."""
    reached = {lattice.source}
    for node in lattice.nodes:
        if node in reached:
            reached |= {edge.target for edge in _leaving(lattice, node, edges) or [Edge(node, Move.KEEP)]}
    return frozenset(reached)


def route_madds(table: CostTable, route: Route) -> int:
    """Return the multiply-adds of one image: stem, head, the operations of cells on the route and its transitions."""
    operations = sum(table.operations[node] for node in {edge.source for edge in route})
    return table.stem + table.head + operations + sum(table.transitions[edge] for edge in route)


def random_route(table: CostTable, *, madds: float, outputs: frozenset[Node], seed: str) -> Route:
    """Draw a route whose cost is within `TOLERANCE` of `madds`, by rejection.

    Each draw opens every edge with the same probability, itself drawn from [0, 1), and keeps those that the source
    reaches. Every cell that is reached leads to an output, because without an edge it passes its input on.

    Args:
        table: Costs of the lattice.
        madds: Multiply-adds of one image.
        outputs: Outputs that the route must reach.
        seed: Seed of the draws.

    Raises:
        UnavailableError: If no draw is accepted.
    """
    route = _draw_route(table, madds, outputs, seed)
    if route is None:
        raise UnavailableError(
            f"no random route of {MAX_DRAWS} draws reaches {', '.join(map(str, sorted(outputs)))} and costs within "
            f"{TOLERANCE:.0%} of {madds:.0f} multiply-adds"
        )
    return route


@functools.cache
def _draw_route(table: CostTable, madds: float, outputs: frozenset[Node], seed: str) -> Route | None:
    generator = random.Random(seed)
    for _ in range(MAX_DRAWS):
        probability = generator.random()
        drawn = [edge for edge in table.lattice.edges if generator.random() < probability]
        route = reached_edges(table.lattice, drawn)
        has_cost = abs(route_madds(table, route) / madds - 1) <= TOLERANCE
        if has_cost and reached_nodes(table.lattice, route) >= outputs:
            return route
    return None


class RouteBackbone(Backbone):
    """Static backbone that executes the edges of a route and the operations of their cells.

    Args:
        network: Routed network whose stem, operations and transitions are used; it must not be used afterwards.
        route: Edges to execute.
    """

    def __init__(self, network: DynamicNetwork, route: Route) -> None:
        super().__init__(network.output_shapes, stages={})
        self.lattice, self.stem, self.cells = network.lattice, network.stem, nn.ModuleDict()
        self._edges = {node: _leaving(network.lattice, node, route) for node in network.lattice.nodes}
        for node in reached_nodes(network.lattice, route):
            if edges := self._edges.get(node):
                cell = network.cell(node)
                transitions = nn.ModuleDict({str(edge.move): cell.transitions[str(edge.move)] for edge in edges})
                self.cells[str(node)] = nn.ModuleDict({"operation": cell.operation, "transitions": transitions})

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Return the feature maps by name, finest first; zeros for outputs that the route does not reach."""
        inputs = {self.lattice.source: self.stem(images)}
        for node in self.lattice.nodes:
            if node in inputs:
                for target, y in self._run_cell(node, inputs.pop(node)).items():
                    inputs[target] = inputs[target] + y if target in inputs else y
        sides = images.shape[-2:]
        shapes = zip(self.lattice.outputs, self.output_shapes.items(), strict=True)
        return {
            name: inputs.get(node, images.new_zeros(len(images), shape.channels, *(s // shape.stride for s in sides)))
            for node, (name, shape) in shapes
        }

    def _run_cell(self, node: Node, x: Tensor) -> dict[Node, Tensor]:
        edges = self._edges[node]
        if not edges:
            return {Edge(node, Move.KEEP).target: x}
        cell = self.cells[str(node)]
        h = torch.relu(cell["operation"](x))  # transitions start with the ReLU, which `Cell` computes once
        return {edge.target: cell["transitions"][str(edge.move)](h) for edge in edges}


def build_route_model(cfg: CfgNode, edges: Collection[str]) -> SemanticSegmentor:
    """Build the network of a config with fixed edges, given by name; the config has no gates."""
    network = DynamicNetwork(cfg)
    by_name = {str(edge): edge for edge in network.lattice.edges}
    backbone = RouteBackbone(network, frozenset(by_name[name] for name in edges))
    head = SEM_SEG_HEADS_REGISTRY.get(cfg.MODEL.SEM_SEG_HEAD.NAME)(cfg, backbone.output_shapes)
    common = SemanticSegmentor.common_arguments(cfg, backbone.output_shapes)
    return SemanticSegmentor(backbone, sem_seg_head=head, **common)


def _leaving(lattice: Lattice, node: Node, edges: Collection[Edge]) -> list[Edge]:
    return [edge for edge in lattice.edges_from(node) if edge in edges]
