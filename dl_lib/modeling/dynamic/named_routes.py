"""Named routes, the names that `MODEL.BACKBONE.ROUTE` accepts: connection patterns of well-known architectures.

Every gate value is 1. The paper models such architectures in its routing space (arXiv 2003.10401, table 1), but does
not list their edges: docs/routes.md compares costs and parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from dl_lib.modeling.dynamic.lattice import Edge, Lattice, Move, Node
from dl_lib.modeling.dynamic.route import Route

__all__ = ["NAMED_ROUTES", "NamedRoute"]

_DEEPLAB_STEPS, _BACKBONE_STAGES = 2, 4  # DeepLabV3: the last of four stages stays at stride 16


@dataclass(frozen=True)
class NamedRoute:
    """Route with a name, for lattices of any size.

    Attributes:
        description: Shape of the route, in Markdown.
        build: Function from a lattice to the route; raises ValueError if the lattice is too small.
        source: Architecture with this shape, in Markdown; empty for a shape of the lattice itself.
    """

    description: str
    build: Callable[[Lattice], Route]
    source: str = ""


def _single_path(lattice: Lattice) -> Route:
    return _route(lattice, _keep_edges(0, range(lattice.num_layers + 1)))


def _fcn(lattice: Lattice) -> Route:
    _require_scales(lattice, 2, "fcn")
    return _chain(lattice, _step_layers(lattice, lattice.num_scales - 1, stages=lattice.num_scales))


def _deeplab(lattice: Lattice) -> Route:
    _require_scales(lattice, _DEEPLAB_STEPS + 1, "deeplab")
    return _chain(lattice, _step_layers(lattice, _DEEPLAB_STEPS, stages=_BACKBONE_STAGES))


def _unet(lattice: Lattice) -> Route:
    """Return a U: down in the first half and up in the second, symmetric if the lattice has the scales early enough."""
    _require_scales(lattice, 2, "unet")
    steps, last = lattice.num_scales - 1, lattice.num_layers
    needed = _first_step_layer(lattice, steps - 1) + lattice.num_scales
    if last < needed:
        raise ValueError(
            f"the route unet requires at least {needed} layers, to go down to stride {lattice.max_stride} and up "
            f"again; add layers or use fewer scales. Received: CELL_NUM_LIST={list(lattice.cells_per_layer)}"
        )
    down = _step_layers(lattice, steps, stages=2 * steps + 1)
    mirrored = [last - 1 - layer for layer in _even_layers(lattice, steps, stages=2 * steps + 1)]
    up = [max(layer, down[-1] + steps - scale) for scale, layer in enumerate(mirrored)]
    edges = _keep_edges(0, range(last + 1))
    for scale, (down_layer, up_layer) in enumerate(zip(down, up, strict=True)):
        edges += [Edge(Node(down_layer, scale), Move.DOWN), Edge(Node(up_layer, scale + 1), Move.UP)]
        edges += _keep_edges(scale + 1, range(down_layer + 1, up_layer))
    return _route(lattice, edges)


def _hrnet(lattice: Lattice) -> Route:
    """Return parallel branches; neighbors exchange at the end of each stage, where the next branch starts."""
    _require_scales(lattice, 2, "hrnet")
    steps = _step_layers(lattice, lattice.num_scales - 1, stages=lattice.num_scales)
    starts = [0, *(layer + 1 for layer in steps)]
    edges = []
    for scale, start in enumerate(starts):
        edges += _keep_edges(scale, range(start, lattice.num_layers + 1))
        for layer in {*steps, lattice.num_layers - 1}:
            exchanges = lattice.edges_from(Node(layer, scale)) if start <= layer else ()
            edges += [edge for edge in exchanges if starts[edge.target.scale] <= edge.target.layer]
    return _route(lattice, edges)


def _require_scales(lattice: Lattice, count: int, name: str) -> None:
    if lattice.num_scales < count:
        raise ValueError(
            f"the route {name} requires at least {count} scales (stride {Node(0, count - 1).stride}); give the last "
            f"layers more cells. Received: CELL_NUM_LIST={list(lattice.cells_per_layer)}"
        )


def _step_layers(lattice: Lattice, count: int, *, stages: int) -> list[int]:
    """Return the layers from which a path steps down: the ends of its first `count` stages, or later if necessary."""
    even = _even_layers(lattice, count, stages=stages)
    return [max(layer, _first_step_layer(lattice, scale)) for scale, layer in enumerate(even)]


def _even_layers(lattice: Lattice, count: int, *, stages: int) -> list[int]:
    """Return the last layers of the first `count` of `stages` stages of equal length; -1 for an empty stage."""
    return [stage * (lattice.num_layers + 1) // stages - 1 for stage in range(1, count + 1)]


def _first_step_layer(lattice: Lattice, scale: int) -> int:
    """Return the first layer with an edge from this scale to the next coarser one."""
    return next(layer for layer, count in enumerate(lattice.cells_per_layer) if count > scale + 1)


def _chain(lattice: Lattice, steps: Sequence[int]) -> Route:
    """Return a single path that steps down from these layers."""
    edges: list[Edge] = [Edge(Node(layer, scale), Move.DOWN) for scale, layer in enumerate(steps)]
    bounds = [-1, *steps, lattice.num_layers + 1]
    for scale in range(len(steps) + 1):
        edges += _keep_edges(scale, range(bounds[scale] + 1, bounds[scale + 1]))
    return _route(lattice, edges)


def _keep_edges(scale: int, layers: Iterable[int]) -> list[Edge]:
    return [Edge(Node(layer, scale), Move.KEEP) for layer in layers]


def _route(lattice: Lattice, edges: Iterable[Edge]) -> Route:
    return Route(lattice, dict.fromkeys(edges, 1.0))


NAMED_ROUTES: Mapping[str, NamedRoute] = {
    "single_path": NamedRoute("The keep edges at stride 4: one path at the finest scale.", _single_path),
    "fcn": NamedRoute(
        "One path that steps down after stages of equal length, from stride 4 to the coarsest stride.",
        _fcn,
        "FCN-32s, [arXiv 1411.4038](https://arxiv.org/abs/1411.4038)",
    ),
    "deeplab": NamedRoute(
        "One path as in `fcn`, but the last stage stays at stride 16. Its convolutions are not dilated, and there is "
        "no spatial pyramid pooling.",
        _deeplab,
        "DeepLabV3, [arXiv 1706.05587](https://arxiv.org/abs/1706.05587)",
    ),
    "unet": NamedRoute(
        "A path down to the coarsest stride and up again, with stages of equal length. Keep edges connect both halves "
        "at each scale as skip connections, whose cells run, too. Only the output at stride 4 is reached.",
        _unet,
        "U-Net, [arXiv 1505.04597](https://arxiv.org/abs/1505.04597)",
    ),
    "hrnet": NamedRoute(
        "Parallel branches with stages of equal length: at the end of each stage, a coarser branch starts and "
        "neighboring branches exchange their features. All branches lead to outputs.",
        _hrnet,
        "HRNetV2, [arXiv 1904.04514](https://arxiv.org/abs/1904.04514)",
    ),
    "all_open": NamedRoute(
        "Every edge of the lattice, as with `MODEL.GATE.GATE_ON=False`.", partial(Route.whole, gated=False)
    ),
}
