"""Routed network: stem and lattice of cells (arXiv 2003.10401, section 3)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from dl_lib.config import CfgNode, ConfigError, configurable
from dl_lib.layers import ShapeSpec, conv_norm_act, separable_conv
from dl_lib.layers.sync_batch_norm import SyncBatchNorm2d
from dl_lib.modeling.build import BACKBONE_REGISTRY
from dl_lib.modeling.dynamic.cell import Cell
from dl_lib.modeling.dynamic.configured_route import configured_route
from dl_lib.modeling.dynamic.dense_execution import run_dense
from dl_lib.modeling.dynamic.fixed_execution import run_fixed
from dl_lib.modeling.dynamic.gate import GATE_KINDS, SMALL_GATE_SHRINK, Gate
from dl_lib.modeling.dynamic.lattice import Node
from dl_lib.modeling.dynamic.route import Route
from dl_lib.modeling.dynamic.routing import Routing, Unreached
from dl_lib.modeling.dynamic.sparse_execution import ImageObserver, run_sparse
from dl_lib.utils import comm

__all__ = ["STEM_CHANNELS", "DynamicNetwork", "DynamicStem", "check_layer_num"]

STEM_CHANNELS = 64  # between the stem's convolutions, whatever the base channels of the lattice


def check_layer_num(backbone: CfgNode) -> None:
    """Raise ConfigError unless `LAYER_NUM` of `MODEL.BACKBONE` is the length of `CELL_NUM_LIST`."""
    layers = len(backbone.CELL_NUM_LIST)
    if layers != backbone.LAYER_NUM:
        raise ConfigError(
            f"MODEL.BACKBONE.LAYER_NUM must equal the number of entries of CELL_NUM_LIST; set it to {layers} or give "
            f"one entry per layer. Received: MODEL.BACKBONE.LAYER_NUM={backbone.LAYER_NUM}"
        )


class DynamicStem(nn.Sequential):
    """Three 3×3 convolutions with strides 2, 1, 2, each with norm and ReLU; the first has no padding.

    Feature maps (B, out_channels, H / 4, W / 4) of images (B, 3, H, W) with sides divisible by 4.

    Args:
        out_channels: Channels at stride 4.
        norm: Name of the norm.
        separable: Make the second and third convolution depthwise-separable (`SEPT_STEM`).
    """

    def __init__(self, out_channels: int, *, norm: str, separable: bool = True) -> None:
        convolution = separable_conv if separable else conv_norm_act
        convolutions: OrderedDict[str, nn.Module] = OrderedDict(
            conv1=conv_norm_act(3, STEM_CHANNELS, 3, stride=2, padding=0, norm=norm),
            conv2=convolution(STEM_CHANNELS, STEM_CHANNELS, 3, norm=norm),
            conv3=convolution(STEM_CHANNELS, out_channels, 3, stride=2, norm=norm),
        )
        super().__init__(convolutions)


@BACKBONE_REGISTRY.register()
class DynamicNetwork(nn.Module):
    """Routed network from images to feature maps at the strides of the lattice's last layer.

    Args:
        route: Open edges of the lattice.
        stem: Module (B, 3, H, W) -> (B, base_channels, H / 4, W / 4).
        cells: Cells of the route, by the names of their nodes.
        base_channels: Channels at stride 4.
        cell_types: Names of the operations in each cell.
        unreached: Policy for cells that receive no input.
        drop_prob: Drop-path probability at the last layer and the end of training.
        sparse: In evaluation mode, run only the cells and transitions that learned gates open.
        activation_checkpointing: In training mode, recompute each layer in the backward pass.
    """

    @configurable
    def __init__(
        self,
        route: Route,
        *,
        stem: DynamicStem,
        cells: nn.ModuleDict,
        base_channels: int,
        cell_types: Sequence[str],
        unreached: Unreached = Unreached.SKIP,
        drop_prob: float = 0.0,
        sparse: bool = True,
        activation_checkpointing: bool = False,
    ) -> None:
        super().__init__()
        self.route = route
        self.lattice = route.lattice
        self.stem = stem
        self.cells = cells
        self.base_channels = base_channels
        self.cell_types = tuple(cell_types)
        self.unreached = unreached
        self.drop_prob = drop_prob
        self.sparse = sparse
        self.activation_checkpointing = activation_checkpointing
        self.small_gate = any(isinstance(module, Gate) and module.small for module in cells.modules())

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        backbone, gate = cfg.MODEL.BACKBONE, cfg.MODEL.GATE
        check_layer_num(backbone)
        route = configured_route(cfg)
        make_gate = partial(
            GATE_KINDS[gate.KIND], norm=backbone.NORM, init_bias=gate.GATE_INIT_BIAS, small=gate.SMALL_GATE
        )
        cells = nn.ModuleDict()
        for node in route.cells:
            channels, fixed_gates = backbone.INIT_CHANNEL << node.scale, route.gates_of(node)
            learned = fixed_gates.count(None)
            cells[str(node)] = Cell(
                channels,
                edges=route.edges_from(node),
                cell_types=backbone.CELL_TYPE,
                norm=backbone.NORM,
                gate=make_gate(channels, learned) if learned else None,
                fixed_gates=fixed_gates,
            )
        return {
            "route": route,
            "stem": DynamicStem(backbone.INIT_CHANNEL, norm=backbone.NORM, separable=backbone.SEPT_STEM),
            "cells": cells,
            "base_channels": backbone.INIT_CHANNEL,
            "cell_types": backbone.CELL_TYPE,
            "unreached": Unreached(gate.UNREACHED),
            "drop_prob": backbone.DROP_PROB,
            "sparse": cfg.TEST.EXECUTION == "sparse",
            "activation_checkpointing": cfg.MODEL.ACTIVATION_CHECKPOINTING,
        }

    def cell(self, node: Node) -> Cell:
        """Return the cell of a node of the route."""
        cell = self.cells[str(node)]
        assert isinstance(cell, Cell)
        return cell

    def channels(self, node: Node) -> int:
        """Return the channels of a node's input, or of one of the lattice's outputs."""
        return self.base_channels << node.scale

    @property
    def output_shapes(self) -> dict[str, ShapeSpec]:
        """Shapes of the features by name, finest first."""
        outputs = self.lattice.outputs
        return {f"layer_{node.scale}": ShapeSpec(self.channels(node), node.stride) for node in outputs}

    @property
    def has_gates(self) -> bool:
        """True if learned gates decide the routing; otherwise every image takes the same route."""
        return not self.route.is_fixed

    @property
    def runs_sparsely(self) -> bool:
        """True if the next forward pass uses sparse execution."""
        return self.sparse and self.has_gates and not self.training

    @property
    def size_divisor(self) -> int:
        """Divisor of the input sides: the coarsest stride of the lattice."""
        return self.lattice.max_stride

    def forward(
        self, images: Tensor, *, step_rate: float | Tensor = 0.0, observer: ImageObserver | None = None
    ) -> tuple[dict[str, Tensor], Routing]:
        """Return the feature maps and the routing of a batch.

        Args:
            images: Normalized images (B, 3, H, W); H and W are multiples of `size_divisor`.
            step_rate: Training progress in [0, 1], for the scheduled drop path. A 0-d float64 tensor in a compiled
                graph, which would be recompiled when a Python number changes.
            observer: Observer that runs the parts in sparse execution.

        Returns:
            The feature maps by name, finest first, with the shapes of `output_shapes`, and the routing.

        Raises:
            ValueError: If the input size is invalid; the message gives the smallest valid size.
        """
        self.check_size(*images.shape[-2:], num_images=images.shape[0])
        if self.runs_sparsely:
            x = self.stem(images) if observer is None else observer.run(self.stem, images, range(len(images)))
            features, routing = run_sparse(self, x, observer=observer)
        else:
            rate = None
            if self.drop_prob > 0 and self.training:
                rate = torch.zeros((), dtype=torch.float64, device=images.device) + step_rate
            run = run_dense if self.has_gates else run_fixed
            features, routing = run(self, self.stem(images), drop_prob_at=partial(self._drop_prob_at, rate=rate))
        return dict(zip(self.output_shapes, features, strict=True)), routing

    def _drop_prob_at(self, node: Node, *, rate: Tensor | None) -> Tensor | None:
        """Return the scheduled drop-path probability, which grows with depth and training progress (section 4.1)."""
        if rate is None or node == self.lattice.source:
            return None
        return rate * (self.drop_prob * node.layer / self.lattice.num_layers)

    def check_size(self, height: int, width: int, *, num_images: int = 1) -> None:
        """Raise ValueError if the size of an input (num_images, 3, height, width) is invalid."""
        divisor = self.size_divisor
        received = f"Received: height={height}, width={width}, num_images={num_images}, training={self.training}"
        if height % divisor or width % divisor or not height or not width:
            raise ValueError(
                f"height and width must be positive multiples of {divisor}, the lattice's coarsest stride; pad the "
                f"input, to at least {divisor}x{divisor}. {received}"
            )
        pixels = self._coarsest_gate_side(height) * self._coarsest_gate_side(width)
        if pixels < 2 and pixels < (needed := self._needed_pixels(num_images)):
            smallest = divisor * (SMALL_GATE_SHRINK if self.small_gate else 1)
            sides = f"{smallest}x{needed * smallest}"
            if needed > self._needed_pixels(num_images + 1):
                sides += f", or {smallest}x{smallest} with a batch of two or more images"
            raise ValueError(
                f"height and width are too small for the {'small gates' if self.small_gate else 'cells'} at stride "
                f"{divisor}; the smallest valid size is {sides} (after padding to multiples of {divisor}). {received}"
            )

    def _needed_pixels(self, num_images: int) -> int:
        """Return the pixels that the norms of the coarsest cells need, as they cannot normalize a single value."""
        cells = [self.cell(node) for node in self.route.cells if node.stride == self.size_divisor]
        for norm in (module for cell in cells for module in cell.modules()):
            if isinstance(norm, nn.GroupNorm) and norm.num_groups == norm.num_channels:
                return 2
            processes = comm.get_world_size() if isinstance(norm, SyncBatchNorm2d) else 1
            if isinstance(norm, nn.BatchNorm2d) and self.training and num_images * processes < 2:
                return 2
        return 1

    def _coarsest_gate_side(self, side: int) -> int:
        return side // self.size_divisor // (SMALL_GATE_SHRINK if self.small_gate else 1)
