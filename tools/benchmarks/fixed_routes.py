"""Fixed routes of the benchmark: the most frequent edges of a routed network, and random routes of a given cost."""

from __future__ import annotations

import functools
import random
from collections.abc import Collection, Mapping

from dl_lib.modeling.costs.table import CostTable
from dl_lib.modeling.dynamic.lattice import Lattice, Node
from dl_lib.modeling.dynamic.route import Route

FREQUENT = 0.5  # a frequent edge is open for more than this fraction of the images
TOLERANCE = 0.05  # relative, of the cost of a random route
MAX_DRAWS = 50_000  # a few seconds for 29 edges


class UnavailableError(Exception):
    """Run that cannot be trained, with the reason."""


def frequent_route(lattice: Lattice, open_fractions: Mapping[str, float]) -> Route:
    """Return the edges that are open for more than `FREQUENT` of the images, as far as the source reaches them."""
    return connected_route(lattice, {name for name, fraction in open_fractions.items() if fraction > FREQUENT})


def connected_route(lattice: Lattice, names: Collection[str]) -> Route:
    """Return the edges of these names that the source reaches; cells without any pass their input on along keep."""
    return Route.connected(lattice, {edge: 1.0 for edge in lattice.edges if str(edge) in names})


def route_madds(table: CostTable, route: Route) -> int:
    """Return the multiply-adds of one image: stem, head, the operations of cells on the route and its transitions."""
    operations = sum(table.operations[node] for node in route.cells)
    return table.stem + table.head + operations + sum(table.transitions[edge] for edge in route.edges)


def random_route(table: CostTable, *, madds: float, outputs: frozenset[Node], seed: str) -> Route:
    """Draw a route whose cost is within `TOLERANCE` of `madds`, by rejection.

    Each draw opens every edge with the same probability, itself drawn from [0, 1), and keeps those that the source
    reaches.

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
        drawn = {str(edge) for edge in table.lattice.edges if generator.random() < probability}
        route = connected_route(table.lattice, drawn)
        if abs(route_madds(table, route) / madds - 1) <= TOLERANCE and route.reached >= outputs:
            return route
    return None
