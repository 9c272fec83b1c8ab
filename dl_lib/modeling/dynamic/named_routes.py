"""Named routes, the names that `MODEL.BACKBONE.ROUTE` accepts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from dl_lib.modeling.dynamic.lattice import Lattice
from dl_lib.modeling.dynamic.route import Route

__all__ = ["NAMED_ROUTES", "NamedRoute"]


@dataclass(frozen=True)
class NamedRoute:
    """Route with a name, for lattices of any size.

    Attributes:
        description: Shape of the route, in one sentence.
        build: Function from a lattice to the route; raises ValueError if the lattice is too small.
    """

    description: str
    build: Callable[[Lattice], Route]


NAMED_ROUTES: Mapping[str, NamedRoute] = {
    "all_open": NamedRoute("Every edge of the lattice.", partial(Route.whole, gated=False)),
}
