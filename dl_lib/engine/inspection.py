"""Parameters, costs and tensor shapes of the parts of a network, without running it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dl_lib.modeling import DynamicNet4Seg, SegmentationModel
from dl_lib.modeling.costs.costs import MADDS_PER_GFLOP
from dl_lib.modeling.costs.counters import measure_madds
from dl_lib.modeling.costs.meta_copy import meta_copy

__all__ = ["Part", "parts_of"]

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Part:
    """Part of a network, for one image.

    Attributes:
        name: Name, such as `layer3_stride8` for a cell with its gate and its transitions.
        shape: Shape (channels, height, width) of the feature map that a cell receives, or that another part returns;
            empty for a static backbone, whose features are parts without parameters and costs.
        parameters: Number of learnable parameters.
        gflops: GFLOPs (1e9 multiply-adds) of the operation, the gate and the transitions of a cell; of other parts, the
            first number is their cost.
    """

    name: str
    shape: Shape
    parameters: int
    gflops: tuple[float, float, float]


def parts_of(model: SegmentationModel, *, size: tuple[int, int]) -> list[Part]:
    """Return stem, cells and head of a routed network, or the features of a static backbone and the head.

    Args:
        model: The network; copies of it without values are measured.
        size: Height and width of the image in pixels; a routed network pads it to multiples of its coarsest stride.

    Raises:
        ValueError: If the network does not accept such images.
    """
    return list(_routed_parts(model, size) if isinstance(model, DynamicNet4Seg) else _static_parts(model, size))


def _routed_parts(model: DynamicNet4Seg, size: tuple[int, int]) -> Iterator[Part]:
    backbone, table = model.backbone, model.costs.table(*size)
    lattice, (height, width) = backbone.lattice, model.costs.padded_size(*size)
    shapes: dict[object, Shape] = {
        node: (backbone.channels(node), height // node.stride, width // node.stride)
        for node in (*lattice.nodes, *lattice.outputs)
    }
    yield Part("stem", shapes[lattice.source], _parameters(backbone.stem), _gflops(table.stem))
    for node in backbone.route.cells:
        transitions = sum(table.transitions[edge] for edge in backbone.route.edges_from(node))
        costs = _gflops(table.operations[node], table.gates[node], transitions)
        yield Part(str(node), shapes[node], _parameters(backbone.cell(node)), costs)
    features = {
        name: _empty(shapes[node], like=model)
        for name, node in zip(backbone.output_shapes, lattice.outputs, strict=True)
    }
    logits = meta_copy(model.sem_seg_head)(features)
    yield Part("head", tuple(logits.shape[1:]), _parameters(model.sem_seg_head), _gflops(table.head))


def _static_parts(model: SegmentationModel, size: tuple[int, int]) -> Iterator[Part]:
    backbone, head = meta_copy(model.backbone), meta_copy(model.sem_seg_head)
    image = _empty((3, *size), like=model)
    features = backbone(image)
    for name, feature in features.items():
        yield Part(f"feature {name}", tuple(feature.shape[1:]), 0, _gflops(0))
    yield Part("backbone", (), _parameters(model.backbone), _gflops(measure_madds(backbone, image)))
    logits = head(features)
    yield Part("head", tuple(logits.shape[1:]), _parameters(model.sem_seg_head), _gflops(measure_madds(head, features)))


def _empty(shape: Shape, *, like: nn.Module) -> Tensor:
    return torch.empty(1, *shape, device="meta", dtype=next(like.parameters()).dtype)


def _gflops(operation: int, gate: int = 0, transitions: int = 0) -> tuple[float, float, float]:
    return operation / MADDS_PER_GFLOP, gate / MADDS_PER_GFLOP, transitions / MADDS_PER_GFLOP


def _parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
