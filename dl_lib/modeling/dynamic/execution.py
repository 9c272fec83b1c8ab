"""Dense and sparse execution of a routed network, with equal outputs (arXiv 2003.10401, section 3).

Dense execution runs every module for every image, as training requires; sparse execution runs only the cells and
transitions that the routing opens.

Shape suffixes: B images, E edges, N nodes, G gates of one cell.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeVar

import torch
from torch import Tensor

from dl_lib.modeling.activation_checkpointing import checkpointed
from dl_lib.modeling.dynamic.lattice import Edge, Move, Node
from dl_lib.modeling.dynamic.routing import CLOSED_BELOW, Routing, Unreached

if TYPE_CHECKING:
    from dl_lib.modeling.dynamic.cell import Cell
    from dl_lib.modeling.dynamic.network import DynamicNetwork

__all__ = ["ImageObserver", "run_dense", "run_sparse"]

Target = TypeVar("Target", int, Node)
Images = TypeVar("Images", Tensor, set[int])


class ImageObserver(Protocol):
    """Observer of the parts that run, and of the images of the batch that they run for."""

    def run(self, part: Callable[[Tensor], Tensor], x: Tensor, images: Sequence[int]) -> Tensor:
        """Return `part(x)`, the output for these images."""


def run_dense(
    network: DynamicNetwork, x: Tensor, *, drop_prob_at: Callable[[Node], Tensor | None]
) -> tuple[list[Tensor], Routing]:
    """Run every module for every image; zero gates cancel the outputs of closed cells and edges.

    Args:
        network: Network whose cells are run.
        x: Input (B, C, H, W) of the source cell.
        drop_prob_at: Function from a node to the drop-path probability of its operations.

    Returns:
        The lattice's outputs, finest first, and the routing.
    """
    lattice = network.lattice
    all_B = torch.ones(x.shape[0], dtype=torch.bool, device=x.device)
    inputs, reached, gates_BG = [x], [all_B], []
    reached_BN = []
    for layer in lattice.layers:
        run_layer = partial(_run_layer, network, layer, drop_prob_at=drop_prob_at)
        if network.activation_checkpointing and torch.is_grad_enabled():
            result = checkpointed(run_layer, inputs, reached, modules=[network.cell(node) for node in layer])
        else:
            result = run_layer(inputs, reached)
        inputs = result.inputs
        gates_BG += result.gates_BG
        reached_BN += result.cells_reached
        reached = result.reached
    routing = Routing(lattice, torch.cat(gates_BG, dim=1), torch.stack(reached_BN, dim=1))
    return inputs, routing


class _LayerResult(NamedTuple):
    """Result of a layer; a tuple, because activation checkpointing finds tensors in tuples but not in dataclasses.

    Attributes:
        inputs: Inputs of the next layer's cells, by scale.
        reached: Images that reach the next layer's cells, by scale.
        gates_BG: Gate values of each cell.
        cells_reached: Images that reach each cell.
    """

    inputs: list[Tensor]
    reached: list[Tensor]
    gates_BG: list[Tensor]
    cells_reached: list[Tensor]


def _run_layer(
    network: DynamicNetwork,
    layer: Sequence[Node],
    inputs: Sequence[Tensor],
    reached: Sequence[Tensor],
    *,
    drop_prob_at: Callable[[Node], Tensor | None],
) -> _LayerResult:
    """Run the cells of one layer on their inputs."""
    runs_unreached = network.unreached.runs(training=network.training)
    next_inputs: dict[int, Tensor] = {}  # by scale: torch 2.6 cannot compile keys that are objects
    next_reached: dict[int, Tensor] = {}
    all_gates, cells_reached = [], []
    for node, x, delivered_B in zip(layer, inputs, reached, strict=True):
        cell = network.cell(node)
        reached_B = torch.ones_like(delivered_B) if runs_unreached else delivered_B
        gates = _close_gates(_gate_values(cell, x) * reached_B[:, None])
        open_B = gates.any(dim=1)
        h = cell.activated(x, drop_prob=drop_prob_at(node))
        for gate_B, edge in zip(gates.unbind(dim=1), network.lattice.edges_from(node), strict=True):
            scale = edge.target.scale
            _add(next_inputs, scale, cell.transitions[str(edge.move)](h), gate_B)
            delivers_B = _delivers(edge, gate_B > 0, open_B, reached_B & ~open_B, network.unreached)
            before_B = next_reached.get(scale)
            next_reached[scale] = delivers_B if before_B is None else before_B | delivers_B
        _bypass_closed(next_inputs, node.scale, x, reached_B & ~open_B)
        all_gates.append(gates)
        cells_reached.append(reached_B)
    scales = sorted(next_inputs)
    return _LayerResult([next_inputs[s] for s in scales], [next_reached[s] for s in scales], all_gates, cells_reached)


def _gate_values(cell: Cell, x: Tensor) -> Tensor:
    return x.new_ones(x.shape[0], len(cell.transitions)) if cell.gate is None else cell.gate(x)


def _close_gates(gates_BG: Tensor) -> Tensor:
    sum_B = gates_BG.sum(dim=1)
    # Not multiplying zeros by zero keeps the gradients by which hard gates of a closed cell can open again.
    return gates_BG * ((sum_B >= CLOSED_BELOW) | (sum_B == 0))[:, None]


def _delivers(edge: Edge, active: Images, opens: Images, bypassed: Images, policy: Unreached) -> Images:
    """Return the images for which an edge delivers, as a mask (B,) or a set."""
    # In the published evaluation every edge of an open cell delivers, even if its gate is zero.
    out = opens if policy is Unreached.PUBLISHED else active
    return out | bypassed if edge.move is Move.KEEP else out


def _add(inputs: dict[Target, Tensor], target: Target, y: Tensor, gate_B: Tensor) -> None:
    weight = _per_image(gate_B, y)
    if target in inputs:
        inputs[target].addcmul_(y, weight)
    else:
        inputs[target] = y * weight


def _per_image(weight_B: Tensor, y: Tensor) -> Tensor:
    """Return weights (B, 1, 1, 1) with the dtype of feature maps."""
    return weight_B.to(y.dtype)[:, None, None, None]


def _bypass_closed(inputs: dict[int, Tensor], scale: int, x: Tensor, bypass_B: Tensor) -> None:
    """Add the input of closed cells to the next layer at the same scale."""
    # Testing for closed cells avoids the addition; on a GPU the test would synchronize with the host.
    if bypass_B.device.type != "cpu" or torch.compiler.is_compiling() or bypass_B.any():
        _add(inputs, scale, x, bypass_B)


def run_sparse(
    network: DynamicNetwork, x: Tensor, *, observer: ImageObserver | None = None
) -> tuple[list[Tensor], Routing]:
    """Run only open cells and active transitions, separately for each image; for inference.

    Host and device synchronize once per layer, for the gate values of its cells.

    Args:
        network: Network in evaluation mode whose cells are run.
        x: Input (B, C, H, W) of the source cell; overwritten without gradients.
        observer: Observer that runs the parts.

    Returns:
        The lattice's outputs, finest first (zeros for images without input), and the routing on the CPU.

    Raises:
        ValueError: If the network is in training mode.
    """
    if network.training:
        raise ValueError(
            "sparse execution requires evaluation mode, because batch statistics over part of a batch differ from "
            "those of the whole batch; call .eval(). Received: training=True"
        )
    run = _SparseRun(network, x, observer)
    gates_BG: list[Tensor] = []
    for layer in network.lattice.layers:
        gates = run.evaluate_gates(layer)
        gates_BG += gates
        # A single host-to-device copy per layer.
        on_device = torch.cat(gates, dim=1).to(x.device).split([g.shape[1] for g in gates], dim=1)
        for node, cell_gates, weights in zip(layer, gates, on_device, strict=True):
            run.run_cell(node, cell_gates.tolist(), weights)
    outputs = [run.input_of(node) for node in network.lattice.outputs]
    return outputs, Routing(network.lattice, torch.cat(gates_BG, dim=1), run.reached_BN())


class _SparseRun:
    """State of a sparse pass: node inputs on the device, and the images that reach each node."""

    def __init__(self, network: DynamicNetwork, x: Tensor, observer: ImageObserver | None) -> None:
        lattice = network.lattice
        self.network, self.observer = network, observer
        self.all_images = list(range(x.shape[0]))
        self.inputs = {lattice.source: x}
        self._like, self._size = x, (x.shape[2], x.shape[3])
        runs_unreached = network.unreached.runs(training=False)
        self.reached = {
            node: set(self.all_images if runs_unreached or node == lattice.source else ())
            for node in (*lattice.nodes, *lattice.outputs)
        }

    def reached_BN(self) -> Tensor:
        """Return whether each image reaches each cell."""
        nodes = self.network.lattice.nodes
        return torch.tensor([[image in self.reached[node] for node in nodes] for image in self.all_images])

    def input_of(self, node: Node) -> Tensor:
        """Return the input (B, C, H, W) of a node; zeros for images without input."""
        if node not in self.inputs:
            shape = (len(self.all_images), self.network.channels(node), *(side >> node.scale for side in self._size))
            empty = torch.empty(
                shape, dtype=self._like.dtype, device=self._like.device, memory_format=_memory_format(self._like)
            )
            self.inputs[node] = empty.zero_()
        return self.inputs[node]

    def evaluate_gates(self, nodes: Sequence[Node]) -> list[Tensor]:
        """Return the gate values (B, G) of each cell of a layer, on the CPU; synchronizes with the device."""
        values = []
        for node in nodes:
            gate, images = self.network.cell(node).gate, sorted(self.reached[node])
            if gate is not None and images:
                values.append(self._run(gate, self.input_of(node), images, out_of=self.all_images))
        evaluated = iter(_to_cpu(values))
        dtype = values[0].dtype if values else self._like.dtype
        all_gates = []
        for node in nodes:
            images, has_gate = sorted(self.reached[node]), self.network.cell(node).gate is not None
            if has_gate and images == self.all_images:
                gates = next(evaluated)
            else:
                gates = torch.zeros(len(self.all_images), len(self.network.lattice.edges_from(node)), dtype=dtype)
                if images:
                    gates[images] = next(evaluated) if has_gate else 1.0
            all_gates.append(_close_gates(gates))
        return all_gates

    def run_cell(self, node: Node, gates: list[list[float]], weights: Tensor) -> None:
        """Run a cell for the images for which it is open.

        Args:
            node: Node of the cell.
            gates: Gate values (B, G).
            weights: The same values on the device.
        """
        cell = self.network.cell(node)
        opened = [image for image, row in enumerate(gates) if any(row)]
        bypassed = sorted(self.reached[node].difference(opened))
        if opened:
            h = self._run(cell.activated, self.input_of(node), opened, out_of=self.all_images)
        # The keep edge comes last, because its transition may return `h`, which `_deliver` overwrites.
        for column, edge in reversed([*enumerate(self.network.lattice.edges_from(node))]):
            if active := [image for image in opened if gates[image][column] > 0]:
                y = self._run(cell.transitions[str(edge.move)], h, active, out_of=opened)
                self._deliver(edge, y, weights[:, column], active)
            self.reached[edge.target] |= _delivers(edge, {*active}, {*opened}, {*bypassed}, self.network.unreached)
        if bypassed:
            x = _part(self.input_of(node), bypassed, out_of=self.all_images)
            self._deliver(Edge(node, Move.KEEP), x, None, bypassed)
        self.inputs.pop(node, None)

    def _run(self, function: Callable[[Tensor], Tensor], x: Tensor, images: list[int], *, out_of: list[int]) -> Tensor:
        x = _part(x, images, out_of=out_of)
        return function(x) if self.observer is None else self.observer.run(function, x, images)

    def _deliver(self, edge: Edge, y: Tensor, weight_B: Tensor | None, images: list[int]) -> None:
        """Add y, times the weight of each image, to the input of the edge's target; may overwrite `y`."""
        inputs, target, are_all = self.inputs, edge.target, images == self.all_images
        if weight_B is not None and are_all and target in inputs:
            _add(inputs, target, y, weight_B)
            return
        index = None if are_all else torch.tensor(images, device=y.device)
        if weight_B is not None:
            y = _scaled(y, weight_B if index is None else weight_B[index])
        if index is not None:
            self.input_of(target).index_add_(0, index, y)
        elif target in inputs:
            inputs[target] += y
        else:  # the start of a sum, which is computed in place, while autograd may need `y`
            inputs[target] = y.clone() if torch.is_grad_enabled() else y


def _scaled(y: Tensor, weight_B: Tensor) -> Tensor:
    """Return each image of `y` times its weight, in place without gradients."""
    weight = _per_image(weight_B, y)
    return y * weight if torch.is_grad_enabled() else y.mul_(weight)


def _part(x: Tensor, images: list[int], *, out_of: list[int]) -> Tensor:
    """Return the rows of `x` that belong to `images`; all rows together belong to the images `out_of`."""
    return x if images == out_of else x[[out_of.index(image) for image in images]]


def _to_cpu(values: Sequence[Tensor]) -> list[Tensor]:
    if not values:
        return []
    flat = torch.cat([value.flatten() for value in values]).cpu()
    return [part.view(value.shape) for part, value in zip(flat.split([v.numel() for v in values]), values, strict=True)]


def _memory_format(x: Tensor) -> torch.memory_format:
    return torch.channels_last if x.is_contiguous(memory_format=torch.channels_last) else torch.contiguous_format
