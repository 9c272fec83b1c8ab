"""Time of the parts of optimized networks, relative to the least that their work takes on this machine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import median
from typing import Any, TypeVar

import torch
from harness import Settings, interleave, seconds_of, timed
from machine_rates import MachineRates
from networks import LARGE, NETWORKS, SMALL, executed_gmadds, open_network, predict, random_image
from report import Samples, Table
from torch import Tensor
from torch.profiler import ProfilerActivity, profile
from work_counter import Piece, WorkCounter

from dl_lib.inference import optimize
from dl_lib.modeling import DynamicNet4Seg
from dl_lib.modeling.costs.costs import MADDS_PER_GFLOP
from dl_lib.modeling.dynamic.lattice import Move
from dl_lib.modeling.meta_arch.coarse import CoarseLogits

SUMS = "gate multiplications and sums"  # and everything else between the parts
CALLS = 20  # of small images

T = TypeVar("T")


class PartTimer:
    """Observer of sparse execution that adds up the time of the parts of each kind.

    Args:
        model: Optimized model.

    Attributes:
        kind: Kind of the part that runs now.
        seconds: Seconds of each kind, in the order of the network.
    """

    def __init__(self, model: DynamicNet4Seg) -> None:
        self._kinds = _kinds_of(model)
        self.kind = ""  # none runs
        self.seconds = dict.fromkeys(["preprocessing", *self._kinds.values(), SUMS, "head", "resizing of logits"], 0.0)

    def run(self, part: Callable[[Any], T], x: Any, images: Sequence[int] = (), *, kind: str | None = None) -> T:
        """Return `part(x)`; the time of parts inside it does not count for its own kind."""
        outer, self.kind = self.kind, kind or self._kinds.get(part, SUMS)
        seconds, y = timed(lambda: part(x))
        self.seconds[self.kind] += seconds
        if outer:
            self.seconds[outer] -= seconds
        self.kind = outer
        return y


def _kinds_of(model: DynamicNet4Seg) -> dict[Callable[..., object], str]:
    """Return the kind of each part of the backbone; a transition along keep does nothing."""
    backbone = model.backbone
    cells = {node: backbone.cell(node) for node in sorted(backbone.lattice.nodes, key=lambda node: node.scale)}
    kinds: dict[Callable[..., object], str] = {backbone.stem: "stem"}
    kinds |= {cell.activated: f"operations, stride {node.stride}" for node, cell in cells.items()}
    kinds |= {cell.gate: "gates" for cell in cells.values() if cell.gate is not None}
    for move in (Move.UP, Move.DOWN):
        kinds |= {
            c.transitions[str(move)]: f"transitions, {move}" for c in cells.values() if str(move) in c.transitions
        }
    return kinds


def predict_in_parts(model: DynamicNet4Seg, images: Sequence[Tensor], timer: PartTimer) -> list[Tensor]:
    """Return the logits (classes, H, W) of images of one size, computed part by part."""
    size, head = (images[0].shape[-2], images[0].shape[-1]), model.sem_seg_head

    def resize(logits: Tensor) -> list[Tensor]:
        resized = [values.new_empty((len(values), *size)) for values in logits]
        for values, output in zip(logits, resized, strict=True):
            CoarseLogits(values, size, stride=head.stride, upsample=head.to_input_size).write_to(output)
        return resized

    batch = timer.run(model.preprocess_images, [{"image": image} for image in images], kind="preprocessing")
    features, _ = timer.run(lambda batch: model.backbone(batch, observer=timer), batch, kind=SUMS)
    return timer.run(resize, timer.run(head, features, kind="head"), kind="resizing of logits")


def work_of(model: DynamicNet4Seg, images: Sequence[Tensor]) -> list[Piece]:
    """Return the work of a prediction."""
    timer = PartTimer(model)
    with torch.no_grad(), WorkCounter(lambda: timer.kind) as counter:
        predict_in_parts(model, images, timer)
    return counter.pieces


def measure_roofline(settings: Settings, *, rounds: int) -> tuple[Table, Samples]:
    """Measure the parts of the default network for a large image with all gates open."""
    model = optimize(open_network(NETWORKS["default network"](settings)))
    image = random_image(LARGE, device=model.device)
    reported = executed_gmadds(*predict(model, [image]))

    def seconds_by_kind() -> dict[str, float]:
        timer = PartTimer(model)
        with torch.inference_mode():
            predict_in_parts(model, [image], timer)
        return timer.seconds

    measured = interleave({"parts": seconds_by_kind}, rounds=rounds)["parts"]
    samples = {kind: tuple(seconds[kind] for seconds in measured) for kind in measured[0]}
    rates, pieces, rows = MachineRates.measure(settings), work_of(model, [image]), []
    for kind, seconds in {**samples, "sum": [sum(one.values()) for one in measured]}.items():
        own = [piece for piece in pieces if kind in (piece.kind, "sum")]
        work = sum(piece.madds for piece in own) / MADDS_PER_GFLOP, sum(piece.num_bytes for piece in own) / 2**20
        bound = sum(rates.bound_seconds(madds=piece.madds, num_bytes=piece.num_bytes) for piece in own)
        rows.append((kind, *work, 1e3 * bound, 1e3 * median(seconds), median(seconds) / bound))
    columns = {"part": "", "GMAC": ".2f", "MiB": ".0f", "bound ms": ".1f", "ms": ".1f", "ratio": ".2f"}
    size, gmadds = "{}x{}".format(*LARGE), rows[-1][1]
    title = f"Roofline, default network, {size}, all gates open ({gmadds:.1f} of {reported:.1f} GMAC; {rates})"
    return Table(title, columns, rows), samples


def measure_overhead(settings: Settings, *, rounds: int) -> tuple[Table, Samples]:
    """Measure the time of the quickstart's network inside and outside of convolutions."""
    model = optimize(open_network(NETWORKS["quickstart"](settings)))
    rates, rows, samples = MachineRates.measure(settings), [], {}
    for batch_size in (1, 16):
        images = [random_image(SMALL, device=model.device) for _ in range(batch_size)]
        name = f"batch of {batch_size}"
        samples |= seconds_of({name: lambda images=images: predict(model, images)}, rounds=rounds * CALLS)
        with profile(activities=[ProfilerActivity.CPU]) as profiler:
            for _ in range(CALLS):
                predict(model, images)
        convolutions = [event for event in profiler.key_averages() if "conv" in event.key]
        seconds, own = median(samples[name]), 1e-6 / CALLS * sum(event.self_cpu_time_total for event in convolutions)
        gmadds = sum(piece.madds for piece in work_of(model, images)) / MADDS_PER_GFLOP
        rows.append((batch_size, 1e3 * seconds, 1e3 * own, own / seconds, gmadds, 1e3 * gmadds / rates.peak))
    columns = {"batch size": "d", "ms": ".2f", "ms in convolutions": ".2f", "fraction": ".3f"}
    columns |= {"GMAC": ".4f", "ms at the highest rate": ".2f"}
    title = "Time inside convolutions, quickstart's network, {}x{}, all gates open".format(*SMALL)
    return Table(title, columns, rows), samples
