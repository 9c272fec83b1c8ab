"""Route statistics against brute force; entropy against scipy."""

from collections import Counter

import numpy as np
import pytest
import scipy.stats

from dl_lib.evaluation.scores.routes import STATIC_BELOW, cell_open_ratios, example_images, route_statistics
from dl_lib.modeling.dynamic.lattice import Lattice

LATTICE = Lattice([2, 3])


def random_case(seed, *, images=40):
    """Return gates with constant and image-dependent edges and repeated routes, and costs."""
    rng = np.random.default_rng(seed)
    patterns = rng.random((int(rng.integers(1, 12)), len(LATTICE.edges))) < rng.choice([0, 0.5, 1], len(LATTICE.edges))
    is_open = patterns[rng.integers(0, len(patterns), images)]
    return is_open * rng.uniform(1e-6, 1, is_open.shape), rng.uniform(1e6, 1e9, images)


@pytest.mark.parametrize("seed", range(20))
def test_statistics_equal_brute_force(seed):
    gates, costs = random_case(seed)
    routes = [tuple(column for column, gate in enumerate(row) if gate > 0) for row in gates]
    counts = Counter(routes)
    statistics = route_statistics(gates, real_madds=costs)
    permuted = route_statistics(gates[::-1], real_madds=costs[::-1])
    assert (permuted.routes, permuted.numbers[::-1]) == (statistics.routes, statistics.numbers)

    ordered = [route.open_edges for route in statistics.routes]
    assert sorted(ordered) == sorted(counts)
    assert [route.images for route in statistics.routes] == [counts[route] for route in ordered]
    assert sorted(counts.values(), reverse=True) == [counts[route] for route in ordered]
    assert list(statistics.numbers) == [ordered.index(route) + 1 for route in routes]
    for route in statistics.routes:
        own = [cost for cost, taken in zip(costs, routes, strict=True) if taken == route.open_edges]
        assert route.real_madds == pytest.approx(sum(own) / len(own), rel=1e-12)

    opened = [sum(column in route for route in routes) for column in range(len(LATTICE.edges))]
    assert list(statistics.open_counts) == opened
    always, never = sum(count == len(routes) for count in opened), sum(count == 0 for count in opened)
    assert (statistics.always_open, statistics.always_closed) == (always, never)
    assert statistics.image_dependent == len(opened) - always - never
    ever = len(opened) - never
    assert statistics.dependent_ratio == (statistics.image_dependent / ever if ever else 0)
    assert statistics.is_static == (statistics.dependent_ratio < STATIC_BELOW)

    entropy = scipy.stats.entropy([counts[route] for route in ordered], base=2)
    assert statistics.entropy_bits == pytest.approx(entropy, abs=1e-12)
    assert list(statistics.real_madds) == ["min", "p5", "median", "p95", "max"]
    assert [*statistics.real_madds.values()] == pytest.approx(np.percentile(costs, [0, 5, 50, 95, 100]).tolist())

    for node, ratio in cell_open_ratios(gates, lattice=LATTICE).items():
        columns = {column for column, edge in enumerate(LATTICE.edges) if edge.source == node}
        assert ratio == pytest.approx(sum(bool(columns & set(route)) for route in routes) / len(routes), rel=1e-12)


@pytest.mark.parametrize(
    ("dependent", "constant", "static"),
    [(0, 0, True), (0, 7, True), (1, 20, True), (1, 19, False), (3, 3, False)],
    ids=["all closed", "constant", "below 5 %", "5 %", "half"],
)
def test_effectively_static(dependent, constant, static):
    gates = np.zeros((20, 30))
    gates[:, :constant] = 0.5
    gates[::2, constant : constant + dependent] = 0.5
    statistics = route_statistics(gates, real_madds=[1.0] * 20)
    assert statistics.is_static is static
    assert (statistics.always_open, statistics.image_dependent) == (constant, dependent)


def test_a_single_route_has_no_entropy():
    statistics = route_statistics(np.ones((20, 3)), real_madds=range(20))
    assert str(statistics.entropy_bits) == "0.0" and statistics.numbers == (1,) * 20


@pytest.mark.parametrize(
    ("costs", "routes", "expected"),
    [
        ([5], [1], (0,)),
        ([5, 4], [1, 2], (1, 0)),
        ([3, 1, 2, 5, 4], [1, 2, 3, 4, 5], (1, 0, 3)),
        ([1, 2, 3, 4], [1, 2, 3, 4], (0, 1, 3)),  # the median is between the second and the third one
        ([1, 1, 1, 1], [1, 1, 1, 1], (0, 1, 2)),
        ([1, 1, 1, 1, 1], [1, 1, 2, 2, 3], (0, 2, 4)),  # equal costs, different routes
        ([1, 1, 1, 1, 2, 3], [1, 1, 1, 1, 2, 3], (0, 4, 5)),  # the median image has the route of the cheapest one
        ([1, 2, 3, 10, 10.5, 11, 13], [1, 9, 3, 1, 1, 4, 2], (0, 5, 6)),  # nearest cost, not nearest rank
        ([1, 1, 3, 3, 3, 3], [1, 1, 2, 2, 2, 2], (0, 3, 2)),  # two routes only
    ],
)
def test_example_images_have_different_costs_and_routes(costs, routes, expected):
    found = example_images(costs, routes=routes)
    assert sorted(found) == sorted(expected)
    assert [costs[index] for index in found] == sorted(costs[index] for index in expected)
