"""Measured latency of the parts of a routed network, and of complete forward passes on random routes.

Parts are timed inside complete predictions of single images, as they run in deployment: on the copy that
`dl_lib.inference.optimize` makes, in sparse execution, with the caches that the parts before them leave.
"""

from __future__ import annotations

import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import fmean, median
from typing import Any

import torch

from dl_lib.config.choices import InferencePrecision
from dl_lib.inference.optimization import optimize
from dl_lib.inference.routed_prediction import OpenEdges, Part, RoutedPrediction
from dl_lib.modeling.costs.latency import LatencyConditions, LatencyTable
from dl_lib.modeling.dynamic.lattice import Lattice
from dl_lib.modeling.meta_arch.dynamic4seg import DynamicNet4Seg
from dl_lib.utils.device_name import device_name
from dl_lib.utils.environment import library_versions
from dl_lib.utils.progress import progress_bar

__all__ = ["LatencyProfile", "RouteLatency", "profile_latency", "random_routes"]

NUM_ROUTES = 20  # on which the parts are measured, and as many others on which their sum is checked
_OPEN_RATIOS = (0.2, 1.0)  # range of the fraction of a route's edges
_SECONDS = 15.0  # of all rounds, as far as their limits allow
_MIN_ROUNDS, _MAX_ROUNDS = 3, 50
_MS_PER_SECOND = 1e3


@dataclass(frozen=True)
class RouteLatency:
    """Latency of one route in milliseconds: sum of the table's parts, and median of the measurements.

    Attributes:
        edges: Number of open edges that the image takes.
    """

    edges: int
    predicted_ms: float
    measured_ms: float

    @property
    def error(self) -> float:
        """Relative deviation of the prediction from the measurement."""
        return self.predicted_ms / self.measured_ms - 1


@dataclass(frozen=True, eq=False)
class LatencyProfile:
    """Latency table, and its predictions for random routes that it was not measured on."""

    table: LatencyTable
    routes: tuple[RouteLatency, ...]

    @property
    def median_error(self) -> float:
        """Median of the absolute relative deviations."""
        return median(abs(route.error) for route in self.routes)


def profile_latency(
    model: DynamicNet4Seg,
    *,
    size: tuple[int, int],
    precision: InferencePrecision = "float32",
    network: Mapping[str, Any],
) -> LatencyProfile:
    """Measure the latency table of a network with learned gates, and of seeded random routes.

    Args:
        model: Model with gates, which is not changed; its weights do not matter.
        size: Height and width of the image in pixels.
        precision: Precision of the weights and feature maps.
        network: See `LatencyConditions`.

    Raises:
        ValueError: If the network has no learned gates, or the device has no instructions for the precision.
    """
    if not model.backbone.has_gates:
        raise ValueError(
            "the network must have learned gates: without them it takes one route, on which parts cannot be compared. "
            "Received: has_gates=False"
        )
    optimized = optimize(model, precision=precision)
    optimized.backbone.sparse = True
    prediction, lattice = RoutedPrediction(optimized, size), optimized.backbone.lattice
    profiled = [frozenset(lattice.edges), *random_routes(lattice, random.Random("parts"), count=NUM_ROUTES - 1)]
    checked = random_routes(lattice, random.Random("check"), count=NUM_ROUTES)
    parts, seconds = _measure(prediction, profiled=profiled, checked=checked)
    conditions = LatencyConditions(
        device=device_name(model.device),
        threads=torch.get_num_threads(),
        precision=precision,
        versions=library_versions(),
        size=prediction.padded_size,
        network=network,
        route=model.backbone.route,
    )
    table = _table_of(parts, conditions=conditions)
    return LatencyProfile(table, tuple(map(partial(_check, prediction, table), checked, seconds)))


def random_routes(lattice: Lattice, generator: random.Random, *, count: int) -> list[OpenEdges]:
    """Draw sets of edges to open; each set has its own probability of an edge."""
    ratios = [generator.uniform(*_OPEN_RATIOS) for _ in range(count)]
    return [frozenset(edge for edge in lattice.edges if generator.random() < ratio) for ratio in ratios]


def _measure(
    prediction: RoutedPrediction, *, profiled: Sequence[OpenEdges], checked: Sequence[OpenEdges]
) -> tuple[list[list[dict[Part, float]]], list[list[float]]]:
    """Return the parts' milliseconds and the seconds of each route, both without the warm-up."""

    def measure_once() -> tuple[list[dict[Part, float]], list[float]]:
        pairs = zip(profiled, checked, strict=True)  # alternating, so that other load affects both
        measured = [(prediction.parts_ms(one), prediction.seconds(other)) for one, other in pairs]
        return [ms for ms, _ in measured], [seconds for _, seconds in measured]

    start = time.perf_counter()
    measure_once()
    rounds = round(_SECONDS / (time.perf_counter() - start))
    rounds = min(_MAX_ROUNDS, max(_MIN_ROUNDS, rounds))
    results = []
    with progress_bar(rounds, description="measuring latency", unit="round") as bar:
        for _ in range(rounds):
            results.append(measure_once())
            bar.update()
    parts, seconds = zip(*results, strict=True)
    return [list(of_route) for of_route in zip(*parts, strict=True)], [list(own) for own in zip(*seconds, strict=True)]


def _table_of(measured: Sequence[Sequence[Mapping[Part, float]]], *, conditions: LatencyConditions) -> LatencyTable:
    """Return the table with the mean over the routes of the median over the rounds, for each part.

    Interruptions delay most predictions, but few calls of a part. All values are therefore scaled by one factor, with
    which they add up to the medians of the whole predictions, on average over the routes.
    """
    medians: dict[Part, list[float]] = {}
    for rounds in measured:
        for part in rounds[0]:
            medians.setdefault(part, []).append(median(ms[part] for ms in rounds))
    means = {part: fmean(own) for part, own in medians.items()}
    whole = sum(median(sum(ms.values()) for ms in rounds) for rounds in measured)
    scale = whole / sum(means[part] for rounds in measured for part in rounds[0])
    values: dict[str, dict[Any, float]] = {}
    for (name, key), ms in means.items():
        values.setdefault(name, {})[key] = scale * ms
    scalars = {name: values.pop(name)[None] for name in ("stem", "head", "decisions")}
    return LatencyTable.of_parts(conditions, scalars=scalars, **values)


def _check(
    prediction: RoutedPrediction, table: LatencyTable, route: OpenEdges, seconds: Sequence[float]
) -> RouteLatency:
    routing = prediction.routing(route)
    return RouteLatency(
        edges=int(routing.active_BE.sum()),
        predicted_ms=table.real_complete(routing).item(),
        measured_ms=_MS_PER_SECOND * median(seconds),
    )
