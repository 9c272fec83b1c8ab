"""Two ways to run a routed network with equal outputs: everything (for training), or only what the routing opens.

Shape suffixes: B images, E edges, N nodes, G gates of one cell.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeVar

import torch
from torch import Tensor, nn

from dl_lib.modeling.activation_checkpointing import checkpointed
from dl_lib.modeling.dynamic.lattice import Edge, Move, Node
from dl_lib.modeling.dynamic.routing import CLOSED_BELOW, Routing, Unreached

if TYPE_CHECKING:
    from dl_lib.modeling.dynamic.cell import Cell
    from dl_lib.modeling.dynamic.network import DynamicNetwork

__all__ = ["ImageObserver", "run_dense", "run_sparse"]

Target = TypeVar("Target", int, Node)


class ImageObserver(Protocol):
    """Observer of module calls that must know which images of the batch a call processes."""

    def images(self, indices: Sequence[int]) -> AbstractContextManager[None]:
        """Return a context whose module calls process these images."""


def run_dense(
    network: DynamicNetwork, x: Tensor, *, drop_prob_at: Callable[[Node], Tensor | None]
) -> tuple[list[Tensor], Routing]:
    """Runs every part for every image; zeros in the place of gates silence what should not have run.

    Args:
        network: the lattice's cells.
        x: input of the source cell, (B, C, H, W).
        drop_prob_at: scheduled drop path of each cell's operations.

    Returns:
        The lattice's outputs, finest first, and the routing.
    """
    lattice = network.lattice
    everywhere_B = torch.ones(x.shape[0], dtype=torch.bool, device=x.device)
    inputs, reached, gates_BG = [x], [everywhere_B], []
    reached_BN = []
    for layer in lattice.layers:
        run_layer = partial(_run_layer, network, layer, drop_prob_at=drop_prob_at)
        if network.activation_checkpointing and torch.is_grad_enabled():
            delivered = checkpointed(run_layer, inputs, reached, modules=[network.cell(node) for node in layer])
        else:
            delivered = run_layer(inputs, reached)
        inputs = delivered.inputs
        gates_BG += delivered.gates_BG
        reached_BN += delivered.here
        reached = delivered.reached
    routing = Routing(lattice, torch.cat(gates_BG, dim=1), torch.stack(reached_BN, dim=1))
    return inputs, routing


class _Delivered(NamedTuple):
    """What a layer does for the next one, scale by scale, and what its gates were, cell by cell.

    A tuple, and not a dataclass, because torch looks into tuples for tensors.
    """

    inputs: list[Tensor]
    reached: list[Tensor]
    gates_BG: list[Tensor]
    here: list[Tensor]


def _run_layer(
    network: DynamicNetwork,
    layer: Sequence[Node],
    inputs: Sequence[Tensor],
    reached: Sequence[Tensor],
    *,
    drop_prob_at: Callable[[Node], Tensor | None],
) -> _Delivered:
    """Runs the cells of one layer on what was delivered to them."""
    runs_anyway = network.unreached.runs(training=network.training)
    next_inputs: dict[int, Tensor] = {}  # by scale: torch 2.6 cannot compile keys that are objects
    next_reached: dict[int, Tensor] = {}
    all_gates, here = [], []
    for node, x, is_reached_B in zip(layer, inputs, reached, strict=True):
        cell = network.cell(node)
        reached_B = torch.ones_like(is_reached_B) if runs_anyway else is_reached_B
        gates = _silence(_gate_values(cell, x), reached_B)
        open_B = gates.any(dim=1)
        h = cell.operation(x, drop_prob=drop_prob_at(node))
        for gate_B, edge in zip(gates.unbind(dim=1), network.lattice.edges_from(node), strict=True):
            scale = edge.target.scale
            _add(next_inputs, scale, cell.transitions[str(edge.move)](h), gate_B)
            delivers_B = _delivers(edge, gate_B > 0, open_B, reached_B & ~open_B, network.unreached)
            before_B = next_reached.get(scale)
            next_reached[scale] = delivers_B if before_B is None else before_B | delivers_B
        _pass_on(next_inputs, node.scale, x, reached_B & ~open_B)
        all_gates.append(gates)
        here.append(reached_B)
    scales = sorted(next_inputs)
    return _Delivered([next_inputs[s] for s in scales], [next_reached[s] for s in scales], all_gates, here)


def _gate_values(cell: Cell, x: Tensor) -> Tensor:
    return x.new_ones(x.shape[0], len(cell.transitions)) if cell.gate is None else cell.gate(x)


def _silence(gates_BG: Tensor, reached_B: Tensor) -> Tensor:
    open_B = reached_B & (gates_BG.sum(dim=1) >= CLOSED_BELOW)
    return gates_BG * open_B[:, None]


def _delivers(edge: Edge, active: Tensor, opens: Tensor, passes: Tensor, policy: Unreached) -> Tensor:
    # In the published evaluation the paths of an open cell deliver whatever their gate says, be it zeros.
    out = opens if policy is Unreached.PUBLISHED else active
    return out | passes if edge.move is Move.KEEP else out


def _add(inputs: dict[Target, Tensor], target: Target, y: Tensor, gate_B: Tensor) -> None:
    gate = gate_B.to(y.dtype)[:, None, None, None]
    if target in inputs:
        inputs[target].addcmul_(y, gate)
    else:
        inputs[target] = y * gate


def _pass_on(inputs: dict[int, Tensor], scale: int, x: Tensor, passes_B: Tensor) -> None:
    """Adds the input of closed cells to their scale; only the CPU can look at no cost whether there are any."""
    if passes_B.device.type != "cpu" or torch.compiler.is_compiling() or passes_B.any():
        _add(inputs, scale, x, passes_B)


def run_sparse(
    network: DynamicNetwork, x: Tensor, *, observer: ImageObserver | None = None
) -> tuple[list[Tensor], Routing]:
    """Runs, image by image, only cells that are open and transitions that are active, for inference.

    The host waits for the device once for each layer: for the gates of the layer's cells.

    Args:
        network: the lattice's cells, in evaluation mode.
        x: input of the source cell, (B, C, H, W).
        observer: is told which images each part runs for.

    Returns:
        The lattice's outputs, finest first (zeros where nothing is delivered), and the routing (on the CPU).

    Raises:
        ValueError: in training mode.
    """
    if network.training:
        raise ValueError(
            "sparse execution is for inference: the batch statistics of a part of the batch are not those of the "
            "batch; expected a network in evaluation mode (call .eval()). Received: training=True"
        )
    run = _SparseRun(network, x, observer)
    gates_BG: list[Tensor] = []
    reached: list[Tensor] = []
    for layer in network.lattice.layers:
        reached += [run.reached[node] for node in layer]
        gates = run.decide(layer)
        gates_BG += gates
        # One copy brings the layer's decisions back to where the maps are.
        on_device = torch.cat(gates, dim=1).to(x.device).split([g.shape[1] for g in gates], dim=1)
        for node, decided, weights in zip(layer, gates, on_device, strict=True):
            run.cell(node, decided, weights)
    outputs = [run.input_of(node) for node in network.lattice.outputs]
    return outputs, Routing(network.lattice, torch.cat(gates_BG, dim=1), torch.stack(reached, dim=1))


class _SparseRun:
    """What has been delivered so far, and for which images; decisions are on the CPU, maps on the device."""

    def __init__(self, network: DynamicNetwork, x: Tensor, observer: ImageObserver | None) -> None:
        lattice = network.lattice
        self.network, self.observer = network, observer
        self.everything = list(range(x.shape[0]))
        self.inputs = {lattice.source: x}
        self._like, self._size = x, (x.shape[2], x.shape[3])
        runs_anyway = network.unreached.runs(training=False)
        self.reached = {
            node: torch.full((x.shape[0],), runs_anyway or node == lattice.source)
            for node in (*lattice.nodes, *lattice.outputs)
        }

    def input_of(self, node: Node) -> Tensor:
        """(B, C, H, W): what was delivered to a node, zeros for images that nothing was delivered for."""
        if node not in self.inputs:
            shape = (len(self.everything), self.network.channels(node), *(side >> node.scale for side in self._size))
            self.inputs[node] = self._like.new_zeros(shape).contiguous(memory_format=_memory_format(self._like))
        return self.inputs[node]

    def decide(self, nodes: Sequence[Node]) -> list[Tensor]:
        """Gate values (B, G) of each cell of a layer, on the CPU; the only wait for the device."""
        values = []
        for node in nodes:
            gate, images = self.network.cell(node).gate, _images(self.reached[node])
            if gate is not None and images:
                values.append(self._run(gate, self.input_of(node), images, out_of=self.everything))
        evaluated = iter(_to_cpu(values))
        dtype = values[0].dtype if values else self._like.dtype
        decisions = []
        for node in nodes:
            gates = torch.ones(len(self.everything), len(self.network.lattice.edges_from(node)), dtype=dtype)
            if self.network.cell(node).gate is not None and self.reached[node].any():
                gates[self.reached[node]] = next(evaluated)
            decisions.append(_silence(gates, self.reached[node]))
        return decisions

    def cell(self, node: Node, gates: Tensor, weights: Tensor) -> None:
        """Runs a cell for the images that it is open for; `weights` are the same gates on the device."""
        cell, open_B = self.network.cell(node), gates.any(dim=1)
        passes_B = self.reached[node] & ~open_B
        opened = _images(open_B)
        if opened:
            h = self._run(cell.operation, self.input_of(node), opened, out_of=self.everything)
        for column, edge in enumerate(self.network.lattice.edges_from(node)):
            active_B = gates[:, column] > 0
            if active := _images(active_B):
                y = self._run(cell.transitions[str(edge.move)], h, active, out_of=opened)
                self._deliver(edge, y, weights[:, column], active)
            self.reached[edge.target] |= _delivers(edge, active_B, open_B, passes_B, self.network.unreached)
        if passes := _images(passes_B):
            x = _part(self.input_of(node), passes, out_of=self.everything)
            self._deliver(Edge(node, Move.KEEP), x, torch.ones_like(weights[:, 0]), passes)
        self.inputs.pop(node, None)

    def _run(self, module: nn.Module, x: Tensor, images: list[int], *, out_of: list[int]) -> Tensor:
        with nullcontext() if self.observer is None else self.observer.images(images):
            return module(_part(x, images, out_of=out_of))

    def _deliver(self, edge: Edge, y: Tensor, weight_B: Tensor, images: list[int]) -> None:
        if images == self.everything:
            _add(self.inputs, edge.target, y, weight_B)
        else:
            index = torch.tensor(images, device=y.device)
            weighted = y * weight_B[index][:, None, None, None]
            self.input_of(edge.target).index_add_(0, index, weighted)


def _images(mask_B: Tensor) -> list[int]:
    return mask_B.nonzero().flatten().tolist()


def _part(x: Tensor, images: list[int], *, out_of: list[int]) -> Tensor:
    """The rows of x for `images`, where its rows are those of `out_of`."""
    return x if images == out_of else x[[out_of.index(image) for image in images]]


def _to_cpu(values: Sequence[Tensor]) -> list[Tensor]:
    if not values:
        return []
    flat = torch.cat([value.flatten() for value in values]).cpu()
    return [part.view(value.shape) for part, value in zip(flat.split([v.numel() for v in values]), values, strict=True)]


def _memory_format(x: Tensor) -> torch.memory_format:
    return torch.channels_last if x.is_contiguous(memory_format=torch.channels_last) else torch.contiguous_format
