"""Measured latency of the parts of a routed network, and of complete forward passes on random routes.

Parts are timed inside complete predictions of single images, as they run in deployment: on the copy that
`dl_lib.inference.optimize` makes, in sparse execution, with the caches that the parts before them leave.
"""

from __future__ import annotations

import random
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from statistics import fmean, median
from typing import Any, TypeVar

import torch
from torch.utils.benchmark import timer  # synchronizes the GPU before it reads the clock

from dl_lib.config.choices import InferencePrecision
from dl_lib.inference.optimization import optimize
from dl_lib.modeling.costs.latency import LatencyConditions, LatencyTable
from dl_lib.modeling.dynamic.forced_gates import SOFT_OPEN_BIAS, force_gates
from dl_lib.modeling.dynamic.lattice import Edge, Lattice, Node
from dl_lib.modeling.dynamic.routing import Routing
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

_Part = tuple[str, Node | Edge | None]  # attribute of `LatencyTable`, and key there
_Route = frozenset[Edge]
_DECISIONS: _Part = ("decisions", None)
T = TypeVar("T")


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
    prediction, lattice = _RoutedPrediction(optimized, size), optimized.backbone.lattice
    profiled = [frozenset(lattice.edges), *random_routes(lattice, seed="parts", count=NUM_ROUTES - 1)]
    checked = random_routes(lattice, seed="check", count=NUM_ROUTES)
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


def random_routes(lattice: Lattice, *, seed: str, count: int) -> list[_Route]:
    """Draw sets of edges to open; each set has its own probability of an edge."""
    generator = random.Random(seed)
    ratios = [generator.uniform(*_OPEN_RATIOS) for _ in range(count)]
    return [frozenset(edge for edge in lattice.edges if generator.random() < ratio) for ratio in ratios]


class _Clock(ABC):
    """Clock of the device."""

    @abstractmethod
    def mark(self) -> Any:
        """Return the present moment in the work of the device."""

    @abstractmethod
    def ms_between(self, start: Any, end: Any) -> float:
        """Return the milliseconds between two moments."""


class _HostClock(_Clock):
    def mark(self) -> float:
        return time.perf_counter()

    def ms_between(self, start: float, end: float) -> float:
        return _MS_PER_SECOND * (end - start)


class _CudaClock(_Clock):
    """Events on the stream: host and GPU do not wait for each other, which would take longer than small parts."""

    def mark(self) -> torch.cuda.Event:
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def ms_between(self, start: torch.cuda.Event, end: torch.cuda.Event) -> float:
        end.synchronize()
        return start.elapsed_time(end)


class _RoutedPrediction:
    """Predictions of one random image whose route is forced.

    Args:
        model: Optimized model, whose gates are changed.
        size: Height and width of the image in pixels.
    """

    def __init__(self, model: DynamicNet4Seg, size: tuple[int, int]) -> None:
        self._model = model
        generator = torch.Generator().manual_seed(0)
        self._inputs = [{"image": torch.randint(256, (3, *size), dtype=torch.uint8, generator=generator)}]
        self._parts = _parts_of(model)
        self._clock: _Clock = _CudaClock() if model.device.type == "cuda" else _HostClock()
        self._calls: list[tuple[_Part, Any, Any]] = []  # part, start and end

    @property
    def padded_size(self) -> tuple[int, int]:
        height, width = self._model.preprocess_images(self._inputs).shape[-2:]
        return height, width

    def routing(self, route: _Route) -> Routing:
        """Return the routing of the image on a route."""
        backbone = self._model.backbone
        force_gates(backbone, route.__contains__, bias=SOFT_OPEN_BIAS)
        return Routing.of_gates(backbone.route, self._predict()["gates"][None], unreached=backbone.unreached)

    def seconds(self, route: _Route) -> float:
        """Return the duration of a prediction on a route."""
        force_gates(self._model.backbone, route.__contains__, bias=SOFT_OPEN_BIAS)
        start = timer()
        self._predict()
        return float(timer() - start)

    def parts_ms(self, route: _Route) -> dict[_Part, float]:
        """Return the milliseconds of each part that runs on a route; their sum is the duration of the prediction."""
        force_gates(self._model.backbone, route.__contains__, bias=SOFT_OPEN_BIAS)
        self._calls.clear()
        self._model.call_part = self._call
        timer()  # waits for the device
        try:
            begin = self._clock.mark()
            self._predict()
            end = self._clock.mark()
        finally:
            del self._model.call_part
        return self._attribute(begin, end)

    def _predict(self) -> dict[str, Any]:
        with torch.inference_mode():
            (output,) = self._model(self._inputs)
        return dict(output)

    def _call(self, part: Callable[[Any], T], x: Any) -> T:
        start = self._clock.mark()
        y = part(x)
        self._calls.append((self._parts[part], start, self._clock.mark()))
        return y

    def _attribute(self, begin: Any, end: Any) -> dict[_Part, float]:
        """Divide the time of a prediction: gaps count for the part before them, after a layer's gates for decisions.

        The time before the stem counts for the stem.
        """
        starts = [begin, *(start for _, start, _ in self._calls[1:]), end]
        following = [*(part for part, _, _ in self._calls[1:]), _DECISIONS]
        ms, decisions = {}, 0.0
        for (part, _, done), next_part, (start, next_start) in zip(
            self._calls, following, pairwise(starts), strict=True
        ):
            if part[0] == "gates" and _layer_of_gate(next_part) != _layer_of_gate(part):
                ms[part] = self._clock.ms_between(start, done)
                decisions += self._clock.ms_between(done, next_start)
            else:
                ms[part] = self._clock.ms_between(start, next_start)
        return ms | {_DECISIONS: decisions}


def _layer_of_gate(part: _Part) -> int | None:
    """Return the layer of a gate; None for other parts."""
    name, key = part
    return key.layer if name == "gates" and isinstance(key, Node) else None


def _parts_of(model: DynamicNet4Seg) -> dict[Callable[..., object], _Part]:
    """Return the entry of a latency table for each part of a model that is called."""
    backbone = model.backbone
    cells = {node: backbone.cell(node) for node in backbone.route.cells}
    parts: dict[Callable[..., object], _Part] = {backbone.stem: ("stem", None), model.sem_seg_head: ("head", None)}
    parts |= {cell.activated: ("operations", node) for node, cell in cells.items()}
    parts |= {cell.gate: ("gates", node) for node, cell in cells.items() if cell.gate is not None}
    edges = backbone.route.edges
    return parts | {cells[edge.source].transitions[str(edge.move)]: ("transitions", edge) for edge in edges}


def _measure(
    prediction: _RoutedPrediction, *, profiled: Sequence[_Route], checked: Sequence[_Route]
) -> tuple[list[list[dict[_Part, float]]], list[list[float]]]:
    """Return the parts' milliseconds and the seconds of each route, both without the warm-up."""

    def measure_once() -> tuple[list[dict[_Part, float]], list[float]]:
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


def _table_of(measured: Sequence[Sequence[Mapping[_Part, float]]], *, conditions: LatencyConditions) -> LatencyTable:
    """Return the table with the mean over the routes of the median over the rounds, for each part.

    Interruptions delay most predictions, but few calls of a part. All values are therefore scaled by one factor, with
    which they add up to the medians of the whole predictions, on average over the routes.
    """
    medians: dict[_Part, list[float]] = {}
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


def _check(prediction: _RoutedPrediction, table: LatencyTable, route: _Route, seconds: Sequence[float]) -> RouteLatency:
    routing = prediction.routing(route)
    return RouteLatency(
        edges=int(routing.active_BE.sum()),
        predicted_ms=table.real_complete(routing).item(),
        measured_ms=_MS_PER_SECOND * median(seconds),
    )
