"""What is measured: evaluations and training steps of the default network, each ready to be called again and again."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from dl_lib.config import CfgNode, ConfigError, apply_overrides, get_cfg
from dl_lib.inference.folding import fold_batch_norms
from dl_lib.modeling import DynamicNet4Seg, build_model
from dl_lib.modeling.dynamic.lattice import Lattice, Node
from dl_lib.solver import build_lr_scheduler, build_optimizer

__all__ = ["Case", "EvaluationCase", "Settings", "TrainingCase", "all_cases", "half_of_the_cells", "set_gates"]

SEED = 0
GATE_BIAS = 20.0  # tanh of it is 1 in float32
STEP_RATE = 0.5
TRAINING_IMAGES, TRAINING_SIDE = 2, 256
MFLOPS_PER_GFLOP = 1e3

Run = Callable[[], float]


@dataclass(frozen=True)
class Settings:
    """What all cases have in common.

    Attributes:
        device: cpu or cuda.
        num_threads: of torch on the CPU; None leaves torch's choice.
        opts: overrides of the default configuration.
    """

    device: str
    num_threads: int | None = None
    opts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Case(ABC):
    """One line of the report."""

    @property
    @abstractmethod
    def name(self) -> str:
        """Unique, with slashes from the general to the special."""

    @property
    @abstractmethod
    def group(self) -> str:
        """Cases of one group are measured in turn, so that what disturbs the machine disturbs all of them."""

    @abstractmethod
    def prepare(self, settings: Settings) -> Run:
        """Builds network and input; the call that is timed returns the GFLOPs of one image's forward pass."""


@dataclass(frozen=True)
class EvaluationCase(Case):
    """One image in, logits at its size out.

    Attributes:
        size: height and width of the image, pixels.
        gates: all gates open, or `half_of_the_cells` closed.
        variant: memory order of the maps, and whether batch norms are folded into the convolutions.
        execution: everything runs, or what is open.
    """

    size: tuple[int, int]
    gates: Literal["open", "half"]
    variant: Literal["contiguous", "channels_last", "channels_last_folded"]
    execution: Literal["dense", "sparse"]

    @property
    def name(self) -> str:
        return f"{self.group}/{self.gates}/{self.variant}/{self.execution}"

    @property
    def group(self) -> str:
        return "evaluation/{}x{}".format(*self.size)

    def prepare(self, settings: Settings) -> Run:
        overrides = ["TEST.EXECUTION", self.execution, "MODEL.CHANNELS_LAST", self.variant != "contiguous"]
        model = _build(_config(settings, overrides)).eval()
        set_gates(model, closed=half_of_the_cells(model.backbone.lattice) if self.gates == "half" else ())
        if self.variant == "channels_last_folded":
            model = fold_batch_norms(model)
        inputs = [{"image": _image(self.size, device=model.device)}]

        def run() -> float:
            with torch.inference_mode():
                (output,) = model(inputs)
            return output["flops"]["executed_flops"] / MFLOPS_PER_GFLOP

        return run


@dataclass(frozen=True)
class TrainingCase(Case):
    """Forward, backward and the optimizer's step, from the random initialisation.

    Attributes:
        gate: whether gates look at the cell's input, or at a quarter of its sides.
        variant: memory order of the maps.
        images: of a step.
        side: of them, height and width, pixels.
        checkpointed: whether the layers of the lattice are computed again instead of kept.
    """

    gate: Literal["full_gate", "small_gate"]
    variant: Literal["contiguous", "channels_last"]
    images: int = TRAINING_IMAGES
    side: int = TRAINING_SIDE
    checkpointed: bool = False

    @property
    def name(self) -> str:
        return f"{self.group}/{self.gate}/{self.variant}{'/checkpointed' if self.checkpointed else ''}"

    @property
    def group(self) -> str:
        return f"training/{self.images}x3x{self.side}x{self.side}"

    def prepare(self, settings: Settings) -> Run:
        small, channels_last = self.gate == "small_gate", self.variant == "channels_last"
        switches = ("MODEL.CHANNELS_LAST", channels_last, "MODEL.ACTIVATION_CHECKPOINTING", self.checkpointed)
        cfg = _config(settings, ["MODEL.GATE.SMALL_GATE", small, *switches])
        model = _build(cfg).train()
        optimizer = build_optimizer(cfg, model)
        build_lr_scheduler(cfg, optimizer)  # sets the first rate of the warm-up: the full one would end in infinities
        size = (self.side, self.side)
        batch = [
            {
                "image": _image(size, device=model.device),
                "sem_seg": torch.randint(cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES, size, device=model.device),
            }
            for _ in range(self.images)
        ]

        def run() -> float:
            optimizer.zero_grad(set_to_none=True)
            losses, flops = model(batch, step_rate=STEP_RATE)
            torch.stack(list(losses.values())).sum().backward()
            optimizer.step()
            return flops["executed_flops"].item() / MFLOPS_PER_GFLOP

        return run


def all_cases(sizes: Sequence[tuple[int, int]]) -> tuple[Case, ...]:
    """Everything that the benchmark can measure.

    Args:
        sizes: heights and widths of the images to evaluate, pixels.
    """
    evaluation = [
        EvaluationCase(size, gates, variant, execution)
        for size in sizes
        for gates in ("open", "half")
        for variant in ("contiguous", "channels_last", "channels_last_folded")
        for execution in ("dense", "sparse")
    ]
    training = [
        TrainingCase(gate, variant)
        for gate in ("full_gate", "small_gate")
        for variant in ("contiguous", "channels_last")
    ]
    return (*evaluation, *training)


def half_of_the_cells(lattice: Lattice) -> frozenset[Node]:
    """The cells to close: 29 of the 62 of 16 layers.

    With layers counted from 0 after the source: every other cell, (layer + scale) even, of all layers between the first
    and the last, and the two finest of the last. Every cell is still reached.
    """
    last = lattice.num_layers - 1

    def is_closed(node: Node) -> bool:
        layer = node.layer - 1
        return (0 < layer < last and (layer + node.scale) % 2 == 0) or (layer == last and node.scale < 2)

    return frozenset(filter(is_closed, lattice.nodes))


@torch.no_grad()
def set_gates(model: DynamicNet4Seg, *, closed: Collection[Node]) -> None:
    """Makes every gate 1, or 0 in the cells to close, whatever the image; gates are still evaluated."""
    for node in model.backbone.lattice.nodes:
        gate = model.backbone.cell(node).gate
        assert gate is not None and gate.predict.bias is not None
        nn.init.zeros_(gate.predict.weight)
        nn.init.constant_(gate.predict.bias, -GATE_BIAS if node in closed else GATE_BIAS)


def _config(settings: Settings, overrides: Sequence[Any]) -> CfgNode:
    cfg = get_cfg()
    apply_overrides(cfg, settings.opts)
    cfg.merge_from_list(["MODEL.DEVICE", settings.device, *overrides])
    if not cfg.MODEL.GATE.GATE_ON:
        raise ConfigError("the benchmark closes gates, so there must be some. Received: MODEL.GATE.GATE_ON=False")
    return cfg


def _build(cfg: CfgNode) -> DynamicNet4Seg:
    """The network, with the same weights in every case of equal shapes; what is drawn afterwards is the same too."""
    torch.manual_seed(SEED)
    model = build_model(cfg)
    assert isinstance(model, DynamicNet4Seg)
    return model


def _image(size: tuple[int, int], *, device: torch.device) -> Tensor:
    return torch.randint(256, (3, *size), device=device).float()
