"""Parameters, costs and tensor shapes of the parts of a network, without running it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from dl_lib.modeling import DynamicNet4Seg, SegmentationModel
from dl_lib.modeling.backbones.base import Backbone
from dl_lib.modeling.costs.costs import MADDS_PER_GFLOP
from dl_lib.modeling.costs.counters import MaddsObserver
from dl_lib.modeling.costs.meta_copy import meta_copy
from dl_lib.modeling.dynamic.lattice import Node

__all__ = ["Part", "parts_of"]

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Part:
    """Part of a network, for one image.

    Attributes:
        name: Name, such as `layer3_stride8` for a cell with its gate and its transitions.
        shape: Shape (channels, height, width) of the output; of a cell, that of its operation.
        parameters: Number of learnable parameters.
        gflops: GFLOPs (1e9 multiply-adds) of the operation, the gate and the transitions of a cell. Other parts have
            their whole cost in the first number, and 0 in the others.
    """

    name: str
    shape: Shape
    parameters: int
    gflops: tuple[float, float, float]


def parts_of(model: SegmentationModel, *, size: tuple[int, int]) -> list[Part]:
    """Return stem and cells of a routed network, or the stages of a static backbone, and the heads.

    Args:
        model: The network; only copies of it on the meta device are executed.
        size: Height and width of the image in pixels; a routed network pads it to multiples of its coarsest stride.

    Raises:
        ValueError: If the network does not accept such images.
    """
    if isinstance(model, DynamicNet4Seg):
        parts, features = _routed_parts(model, size)
    else:
        parts, features = _stages(cast(Backbone, model.backbone), size)
    head, madds = meta_copy(model.sem_seg_head), MaddsObserver(num_images=1)
    with torch.no_grad(), madds:
        logits = head(features)
    parts.append(Part("head", tuple(logits.shape[1:]), _parameters(model.sem_seg_head), _gflops(*madds.madds)))
    for name, auxiliary in model.auxiliary_heads.items():  # run in training only
        with torch.no_grad():
            logits = meta_copy(auxiliary)(features[name])
        parts.append(Part(f"auxiliary head of {name}", tuple(logits.shape[1:]), _parameters(auxiliary), _gflops(0)))
    return parts


def _routed_parts(model: DynamicNet4Seg, size: tuple[int, int]) -> tuple[list[Part], dict[str, Tensor]]:
    """Return the parts, and the features on the meta device."""
    backbone, table = model.backbone, model.costs.table(*size)
    lattice, (height, width) = backbone.lattice, model.costs.padded_size(*size)
    shapes: dict[Node, Shape] = {
        node: (backbone.channels(node), height // node.stride, width // node.stride)
        for node in (*lattice.nodes, *lattice.outputs)
    }
    parts = [Part("stem", shapes[lattice.source], _parameters(backbone.stem), _gflops(table.stem))]
    for node in backbone.route.cells:
        transitions = sum(table.transitions[edge] for edge in backbone.route.edges_from(node))
        costs = _gflops(table.operations[node], table.gates[node], transitions)
        parts.append(Part(str(node), shapes[node], _parameters(backbone.cell(node)), costs))
    features = zip(backbone.output_shapes, (_empty(shapes[node]) for node in lattice.outputs), strict=True)
    return parts, dict(features)


def _stages(backbone: Backbone, size: tuple[int, int]) -> tuple[list[Part], dict[str, Tensor]]:
    """Return the stages of a static backbone, and its features on the meta device."""
    backbone, madds = meta_copy(backbone), MaddsObserver(num_images=1)
    with torch.no_grad(), madds:
        features = backbone(_empty((3, *size)))
    parts = []
    for name, feature in features.items():
        modules = [module for _, module in backbone.stage(name)]
        parameters = sum(values.numel() for module in modules for values in module.parameters(recurse=False))
        costs = _gflops(sum(madds.by_module[module] for module in modules))
        parts.append(Part(name, tuple(feature.shape[1:]), parameters, costs))
    return parts, features


def _empty(shape: Shape) -> Tensor:
    return torch.empty(1, *shape, device="meta")


def _gflops(operation: int, gate: int = 0, transitions: int = 0) -> tuple[float, float, float]:
    return operation / MADDS_PER_GFLOP, gate / MADDS_PER_GFLOP, transitions / MADDS_PER_GFLOP


def _parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
