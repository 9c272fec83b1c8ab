"""Statistics of routes: open edges, distinct routes, their entropy and their real cost.

An edge is open for an image if its gate value is above 0, with several passes in at least one of them. A route is the
set of edges that are open for an image.

Shape suffixes: N images, E edges of the lattice, R distinct routes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import median

import numpy as np
import numpy.typing as npt

from dl_lib.modeling.dynamic.lattice import Lattice, Node

__all__ = [
    "MIN_IMAGES",
    "STATIC_BELOW",
    "GateSaturation",
    "Route",
    "RouteStatistics",
    "cell_open_ratios",
    "example_images",
    "gate_saturation",
    "route_statistics",
]

MIN_IMAGES = 20  # below, statistics of routes are not reported
STATIC_BELOW = 0.05  # of the edges that any image opens: ratio of those that depend on the image
_SATURATED_WITHIN = 1e-3  # of 0 or 1, where tanh and sigmoid have almost no gradient
_PERCENTILES = {"min": 0, "p5": 5, "median": 50, "p95": 95, "max": 100}


@dataclass(frozen=True)
class Route:
    """Route that at least one image takes.

    Attributes:
        open_edges: Columns of the open edges, in the order of the lattice's edges.
        images: Number of images that take it.
        real_madds: Mean real cost of these images in multiply-adds.
    """

    open_edges: tuple[int, ...]
    images: int
    real_madds: float


@dataclass(frozen=True)
class RouteStatistics:
    """Routes of a set of images.

    Attributes:
        numbers: Number of each image's route. Route 1 is the most frequent one; numbers do not depend on the order of
            the images.
        routes: Distinct routes, by number.
        open_counts: Number of images that open each edge, in the order of the lattice's edges.
        real_madds: Percentiles of the real cost in multiply-adds, by the names min, p5, median, p95 and max.
    """

    numbers: tuple[int, ...]
    routes: tuple[Route, ...]
    open_counts: tuple[int, ...]
    real_madds: Mapping[str, float]

    @property
    def num_images(self) -> int:
        return len(self.numbers)

    @property
    def always_open(self) -> int:
        """Number of edges that every image opens."""
        return self.open_counts.count(self.num_images)

    @property
    def always_closed(self) -> int:
        """Number of edges that no image opens."""
        return self.open_counts.count(0)

    @property
    def image_dependent(self) -> int:
        """Number of edges that some images open and others do not."""
        return len(self.open_counts) - self.always_open - self.always_closed

    @property
    def ever_open(self) -> int:
        """Number of edges that at least one image opens."""
        return self.always_open + self.image_dependent

    @property
    def dependent_ratio(self) -> float:
        """Ratio of the image-dependent edges to those that any image opens; 0 if all edges are closed."""
        return self.image_dependent / self.ever_open if self.ever_open else 0.0

    @property
    def is_static(self) -> bool:
        """True if the network is effectively static: almost no open edge depends on the image."""
        return self.dependent_ratio < STATIC_BELOW

    @property
    def open_ratios(self) -> tuple[float, ...]:
        """Ratio of the images that open each edge."""
        return tuple(count / self.num_images for count in self.open_counts)

    @cached_property
    def entropy_bits(self) -> float:
        """Shannon entropy of the empirical distribution of the routes."""
        ratios_R = np.array([route.images for route in self.routes]) / self.num_images
        return float(abs(-(ratios_R * np.log2(ratios_R)).sum()))  # 0 instead of -0 for a single route


@dataclass(frozen=True)
class GateSaturation:
    """Learned gates with one extreme value for every image: the image has no influence on them.

    Attributes:
        learned: Number of learned gates.
        at_zero: Number of those that are 0 for every image.
        at_one: Number of those that are 1 for every image.
    """

    learned: int
    at_zero: int
    at_one: int

    @property
    def ratio(self) -> float:
        """Ratio of the saturated gates; 0 without learned gates."""
        return (self.at_zero + self.at_one) / self.learned if self.learned else 0.0


def gate_saturation(gates_NE: npt.NDArray[np.floating], *, learned: Sequence[bool] | None = None) -> GateSaturation:
    """Count the saturated gates of at least one image; values within 0.001 of 0 or 1 count as those.

    Args:
        gates_NE: Gate values, columns in the order of the lattice's edges.
        learned: Whether the gate of each edge is learned; by default all are.
    """
    chosen_NE = gates_NE if learned is None else gates_NE[:, np.asarray(learned, bool)]
    return GateSaturation(
        learned=chosen_NE.shape[1],
        at_zero=int((chosen_NE.max(axis=0) <= _SATURATED_WITHIN).sum()),
        at_one=int((chosen_NE.min(axis=0) >= 1 - _SATURATED_WITHIN).sum()),
    )


def route_statistics(gates_NE: npt.NDArray[np.floating], *, real_madds: Sequence[float]) -> RouteStatistics:
    """Compute the statistics of at least one image.

    Args:
        gates_NE: Gate values, columns in the order of the lattice's edges.
        real_madds: Real cost of each image in multiply-adds.
    """
    is_open_NE = gates_NE > 0
    is_open_RE, index_N, images_R = np.unique(is_open_NE, axis=0, return_inverse=True, return_counts=True)
    order_R = np.argsort(-images_R, kind="stable")
    number_of_R = np.argsort(order_R) + 1
    numbers_N = number_of_R[index_N.reshape(-1)]  # numpy 2.0 returns (N, 1)
    costs_N = np.asarray(real_madds, np.float64)
    return RouteStatistics(
        numbers=tuple(numbers_N.tolist()),
        routes=tuple(
            Route(
                open_edges=tuple(np.flatnonzero(is_open_RE[row]).tolist()),
                images=int(images_R[row]),
                real_madds=math.fsum(costs_N[numbers_N == number]) / int(images_R[row]),
            )
            for number, row in enumerate(order_R, 1)
        ),
        open_counts=tuple(is_open_NE.sum(axis=0).tolist()),
        real_madds={name: float(np.percentile(costs_N, percent)) for name, percent in _PERCENTILES.items()},
    )


def example_images(costs: Sequence[float], *, routes: Sequence[int]) -> tuple[int, ...]:
    """Return the indices of the cheapest image, a middle one and the most expensive one, in this order.

    The middle one is the image with the cost nearest to the median, among those whose route differs from the other two
    if there are any. Of several candidates, the first one with another route is chosen. With fewer than three images,
    all are returned.

    Args:
        costs: Cost of each image, in any unit.
        routes: Number of each image's route.
    """
    by_cost = sorted(range(len(costs)), key=lambda index: (costs[index], index))
    middle = median(costs) if costs else 0.0
    chosen: list[int] = []

    def choose(key: Callable[[int, bool], tuple[float, ...]]) -> None:
        known = {routes[index] for index in chosen}
        left = [index for index in by_cost if index not in chosen]
        if left:
            chosen.append(min(left, key=lambda index: (*key(index, routes[index] in known), index)))

    choose(lambda index, is_known: (costs[index], is_known))
    choose(lambda index, is_known: (-costs[index], is_known))
    choose(lambda index, is_known: (is_known, abs(costs[index] - middle)))
    return tuple(sorted(chosen, key=lambda index: (costs[index], index)))


def cell_open_ratios(gates_NE: npt.NDArray[np.floating], *, lattice: Lattice) -> dict[Node, float]:
    """Return the ratio of the images that open each cell, i.e. at least one of its edges."""
    padded = np.pad(gates_NE > 0, ((0, 0), (0, 1)))  # the column that `edge_columns` refers to beyond the edges
    return {
        node: float(padded[:, columns].any(axis=1).mean())
        for node, columns in zip(lattice.nodes, lattice.edge_columns, strict=True)
    }
