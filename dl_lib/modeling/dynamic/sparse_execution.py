"""Sparse execution: only the cells and transitions that the gates open run, with the outputs of dense execution.

Shape suffixes: B images, E edges, N nodes, G gates of one cell.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from dl_lib.modeling.dynamic.execution_steps import add, all_edges, close_gates, per_image, with_fixed, zeros
from dl_lib.modeling.dynamic.lattice import Edge, Move, Node
from dl_lib.modeling.dynamic.routing import Routing, delivering

if TYPE_CHECKING:
    from dl_lib.modeling.dynamic.network import DynamicNetwork

__all__ = ["ImageObserver", "run_sparse"]


class ImageObserver(Protocol):
    """Observer of the parts that run, and of the images of the batch that they run for."""

    def run(self, part: Callable[[Tensor], Tensor], x: Tensor, images: Sequence[int]) -> Tensor:
        """Return `part(x)`, the output for these images."""


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
        cells = [node for node in layer if network.route.edges_from(node)]
        gates = run.evaluate_gates(cells)
        gates_BG += gates
        # A single host-to-device copy per layer.
        on_device = torch.cat(gates, dim=1).to(x.device).split([g.shape[1] for g in gates], dim=1) if gates else ()
        for node, cell_gates, weights in zip(cells, gates, on_device, strict=True):
            run.run_cell(node, cell_gates.tolist(), weights)
        for node in layer:
            if network.route.passes_on(node):
                run.pass_on(node, sorted(run.reached[node]))
    outputs = [run.input_of(node) for node in network.lattice.outputs]
    return outputs, Routing(network.lattice, all_edges(network, gates_BG), run.reached_BN())


class _SparseRun:
    """State of a sparse pass: node inputs on the device, and the images that reach each node."""

    def __init__(self, network: DynamicNetwork, x: Tensor, observer: ImageObserver | None) -> None:
        lattice = network.lattice
        self.network, self.observer = network, observer
        self.all_images = list(range(x.shape[0]))
        self.inputs = {lattice.source: x}
        self._like = x
        running = {lattice.source, *(network.route.cells if network.unreached.runs(training=False) else ())}
        self.reached = {
            node: set(self.all_images if node in running else ()) for node in (*lattice.nodes, *lattice.outputs)
        }

    def reached_BN(self) -> Tensor:
        """Return whether each image reaches each cell."""
        nodes = self.network.lattice.nodes
        return torch.tensor([[image in self.reached[node] for node in nodes] for image in self.all_images])

    def input_of(self, node: Node) -> Tensor:
        """Return the input (B, C, H, W) of a node; zeros for images without input."""
        if node not in self.inputs:
            self.inputs[node] = zeros(self.network, node, like=self._like)
        return self.inputs[node]

    def evaluate_gates(self, nodes: Sequence[Node]) -> list[Tensor]:
        """Return the gate values (B, G) of each of these cells of a layer, on the CPU; synchronizes with the device."""
        values = []
        for node in nodes:
            gate, images = self.network.cell(node).gate, sorted(self.reached[node])
            if gate is not None and images:
                values.append(self._run(gate, self.input_of(node), images, out_of=self.all_images))
        evaluated = iter(_to_cpu(values))
        dtype = torch.promote_types(values[0].dtype if values else self._like.dtype, torch.float32)
        like = torch.empty(0, dtype=dtype)  # on the CPU
        all_gates = []
        for node in nodes:
            cell, images = self.network.cell(node), sorted(self.reached[node])
            learned = next(evaluated) if images and cell.gate is not None else None
            if images == self.all_images:
                gates = with_fixed(cell, learned, num_images=len(images), like=like)
            else:
                gates = like.new_zeros(len(self.all_images), len(cell.fixed_gates))
                if images:
                    gates[images] = with_fixed(cell, learned, num_images=len(images), like=like)
            all_gates.append(close_gates(gates))
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
        for column, edge in reversed([*enumerate(self.network.route.edges_from(node))]):
            if active := [image for image in opened if gates[image][column] > 0]:
                y = self._run(cell.transitions[str(edge.move)], h, active, out_of=opened)
                self._deliver(edge, y, weights[:, column], active)
            self.reached[edge.target].update(delivering(active, opened, self.network.unreached))
        self.pass_on(node, bypassed)

    def pass_on(self, node: Node, images: list[int]) -> None:
        """Pass the input of a node on along keep for these images, and release it."""
        if images:
            keep = Edge(node, Move.KEEP)
            self._deliver(keep, _part(self.input_of(node), images, out_of=self.all_images), None, images)
            self.reached[keep.target].update(images)
        self.inputs.pop(node, None)

    def _run(self, function: Callable[[Tensor], Tensor], x: Tensor, images: list[int], *, out_of: list[int]) -> Tensor:
        x = _part(x, images, out_of=out_of)
        return function(x) if self.observer is None else self.observer.run(function, x, images)

    def _deliver(self, edge: Edge, y: Tensor, weight_B: Tensor | None, images: list[int]) -> None:
        """Add y, times the weight of each image, to the input of the edge's target; may overwrite `y`."""
        inputs, target, are_all = self.inputs, edge.target, images == self.all_images
        if weight_B is not None and are_all and target in inputs:
            add(inputs, target, y, weight_B)
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
    weight = per_image(weight_B, y)
    return y * weight if torch.is_grad_enabled() else y.mul_(weight)


def _part(x: Tensor, images: list[int], *, out_of: list[int]) -> Tensor:
    """Return the rows of `x` that belong to `images`; all rows together belong to the images `out_of`."""
    return x if images == out_of else x[[out_of.index(image) for image in images]]


def _to_cpu(values: Sequence[Tensor]) -> list[Tensor]:
    if not values:
        return []
    flat = torch.cat([value.flatten() for value in values]).cpu()
    return [part.view(value.shape) for part, value in zip(flat.split([v.numel() for v in values]), values, strict=True)]
