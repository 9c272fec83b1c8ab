"""Timed predictions of one image whose route is forced, and of the parts that run."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any, TypeVar

import torch
from torch.utils.benchmark import timer  # synchronizes the GPU before it reads the clock

from dl_lib.modeling.dynamic.forced_gates import SOFT_OPEN_BIAS, force_gates
from dl_lib.modeling.dynamic.lattice import Edge, Node
from dl_lib.modeling.dynamic.routing import Routing
from dl_lib.modeling.meta_arch.dynamic4seg import DynamicNet4Seg

__all__ = ["OpenEdges", "Part", "RoutedPrediction"]

OpenEdges = frozenset[Edge]  # of a forced route
Part = tuple[str, Node | Edge | None]  # attribute of `LatencyTable`, and key there
_DECISIONS: Part = ("decisions", None)
T = TypeVar("T")


class RoutedPrediction:
    """Predictions of one random image whose route is forced.

    Args:
        model: Optimized model, whose gates are changed.
        size: Height and width of the image in pixels.
    """

    def __init__(self, model: DynamicNet4Seg, size: tuple[int, int]) -> None:
        self._model, self._device = model, model.device
        generator = torch.Generator().manual_seed(0)
        self._inputs = [{"image": torch.randint(256, (3, *size), dtype=torch.uint8, generator=generator)}]
        self._parts = _parts_of(model)
        self._calls: list[tuple[Part, Any, Any]] = []  # part, start and end

    @property
    def padded_size(self) -> tuple[int, int]:
        """Height and width in pixels of the image as the network receives it."""
        height, width = self._model.preprocess_images(self._inputs).shape[-2:]
        return height, width

    def routing(self, route: OpenEdges) -> Routing:
        """Return the routing of the image on a route."""
        backbone = self._model.backbone
        force_gates(backbone, route.__contains__, bias=SOFT_OPEN_BIAS)
        return Routing.of_gates(backbone.route, self._predict()["gates"][None], unreached=backbone.unreached)

    def seconds(self, route: OpenEdges) -> float:
        """Return the duration of a prediction on a route."""
        force_gates(self._model.backbone, route.__contains__, bias=SOFT_OPEN_BIAS)
        start = timer()
        self._predict()
        return float(timer() - start)

    def parts_ms(self, route: OpenEdges) -> dict[Part, float]:
        """Return the milliseconds of each part that runs on a route; their sum is the duration of the prediction."""
        force_gates(self._model.backbone, route.__contains__, bias=SOFT_OPEN_BIAS)
        self._calls.clear()
        self._model.call_part = self._call
        timer()  # waits for the device
        try:
            begin = _mark(self._device)
            self._predict()
            end = _mark(self._device)
        finally:
            del self._model.call_part
        return self._attribute(begin, end)

    def _predict(self) -> dict[str, Any]:
        with torch.inference_mode():
            (output,) = self._model(self._inputs)
        return dict(output)

    def _call(self, part: Callable[[Any], T], x: Any) -> T:
        start = _mark(self._device)
        y = part(x)
        self._calls.append((self._parts[part], start, _mark(self._device)))
        return y

    def _attribute(self, begin: Any, end: Any) -> dict[Part, float]:
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
                ms[part] = _ms_between(start, done)
                decisions += _ms_between(done, next_start)
            else:
                ms[part] = _ms_between(start, next_start)
        return ms | {_DECISIONS: decisions}


def _layer_of_gate(part: Part) -> int | None:
    """Return the layer of a gate; None for other parts."""
    name, key = part
    return key.layer if name == "gates" and isinstance(key, Node) else None


def _parts_of(model: DynamicNet4Seg) -> dict[Callable[..., object], Part]:
    """Return the entry of a latency table for each part of a model that is called."""
    backbone = model.backbone
    cells = {node: backbone.cell(node) for node in backbone.route.cells}
    parts: dict[Callable[..., object], Part] = {backbone.stem: ("stem", None), model.sem_seg_head: ("head", None)}
    parts |= {cell.activated: ("operations", node) for node, cell in cells.items()}
    parts |= {cell.gate: ("gates", node) for node, cell in cells.items() if cell.gate is not None}
    edges = backbone.route.edges
    return parts | {cells[edge.source].transitions[str(edge.move)]: ("transitions", edge) for edge in edges}


def _mark(device: torch.device) -> Any:
    """Return the present moment in the work of the device.

    Events on the stream: host and GPU do not wait for each other, which would take longer than small parts.
    """
    if device.type != "cuda":
        return time.perf_counter()
    event = torch.cuda.Event(enable_timing=True)
    event.record()
    return event


def _ms_between(start: Any, end: Any) -> float:
    """Return the milliseconds between two moments."""
    if isinstance(end, float):
        return 1e3 * (end - start)
    end.synchronize()
    return float(start.elapsed_time(end))
