"""Repetition of a saved training step on one process."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from dl_lib.checkpoint import CheckpointError
from dl_lib.checkpoint.matching import CheckpointMismatchError, find_mismatch
from dl_lib.checkpoint.state_check import check_state
from dl_lib.config import CfgNode
from dl_lib.engine.replay.layer_statistics import LayerObserver, LayerStatistics
from dl_lib.engine.replay.sample_check import check_samples
from dl_lib.engine.setup import build_configured_model
from dl_lib.engine.training.precision import Precision
from dl_lib.engine.training.random_state import set_random_state
from dl_lib.engine.training.saved_step import MAIN_RANK, SavedStep, step_file
from dl_lib.engine.training.train_step import GradientClip, TrainStep
from dl_lib.modeling import SegmentationModel
from dl_lib.modeling.losses.budget import TargetBudget
from dl_lib.solver import build_optimizer
from dl_lib.utils.device_name import device_name
from dl_lib.utils.environment import library_versions

__all__ = ["Replay", "replay_step"]

_UNOBSERVABLE = {  # a compiled graph has no modules, and recomputed ones no gradients of their outputs
    "MODEL.COMPILE": False,
    "MODEL.ACTIVATION_CHECKPOINTING": False,
}


@dataclass(frozen=True)
class Replay:
    """Result of a replay.

    Attributes:
        values: Losses, gradient norm and logged values by name, as in `SavedStep.values`.
        layers: Statistics of the modules, in the order of the forward pass.
        differences: Reasons why the values may differ from those of the saved step; empty if they must be equal bit
            for bit.
    """

    values: dict[str, float]
    layers: tuple[LayerStatistics, ...]
    differences: tuple[str, ...]

    @property
    def first_non_finite_output(self) -> LayerStatistics | None:
        """First module of the forward pass with a non-finite output; None if there is none."""
        return next((layer for layer in self.layers if layer.non_finite), None)

    @property
    def first_non_finite_gradient(self) -> LayerStatistics | None:
        """First module of the backward pass with a non-finite gradient of outputs or parameters, if there is one."""
        ran = sorted(
            (layer.backward_position, position)
            for position, layer in enumerate(self.layers)
            if layer.backward_position is not None
        )
        in_order = (self.layers[position] for _, position in ran)
        return next((layer for layer in in_order if not _has_finite_gradients(layer)), None)


def replay_step(cfg: CfgNode, step: SavedStep) -> Replay:
    """Build the model and run the forward and backward pass of a saved step, on the device of the config.

    Args:
        cfg: Config of the step, possibly with overrides that keep the names and shapes of the weights.
        step: The step.

    Raises:
        CheckpointError: If the weights or the batch do not fit the config.
        ConfigError: If the model cannot be built.
    """
    cfg = cfg.with_values({key: value for key, value in _UNOBSERVABLE.items() if key in cfg.flat()})
    model = build_configured_model(cfg)
    if isinstance(model, SegmentationModel):
        check_samples(step, cfg=cfg)
    _load(model, step)
    device = next(model.parameters()).device
    budget = getattr(model, "budget", None)
    if isinstance(budget, TargetBudget) and step.budget_weight is not None:
        budget.weight = step.budget_weight
    precision = _precision(cfg, step, device=device)
    clip = _RecordingClip(cfg.SOLVER.GRAD_CLIP, cfg.SOLVER.GRAD_CLIP_TYPE)
    train_step = TrainStep(model.train(), build_optimizer(cfg, model), clip=clip, precision=precision)
    with _threads(step.threads), LayerObserver(model) as observer:
        set_random_state(step.random_state)
        values = train_step.backward(step.batches, step_rate=step.iteration / step.max_iter)
    scale = float(precision.scaler.get_scale())
    return Replay(
        {name: float(value) for name, value in values.items()},
        observer.statistics(clip.norms, gradient_scale=scale),
        tuple(_differences(step, cfg=cfg, device=device)),
    )


@dataclass(frozen=True)
class _RecordingClip(GradientClip):
    """Clipping that first records the norm of the gradient of each parameter.

    Attributes:
        norms: L2 norm by parameter.
    """

    norms: dict[nn.Parameter, float] = field(default_factory=dict)

    def apply(self, parameters: Sequence[nn.Parameter]) -> Tensor:
        for parameter in parameters:
            if parameter.grad is not None:
                self.norms[parameter] = parameter.grad.double().norm().item()
        return super().apply(parameters)


def _load(model: nn.Module, step: SavedStep) -> None:
    """Load the weights, which may be NaN or infinite, unlike those of checkpoints."""
    own = model.state_dict()
    if mismatch := find_mismatch(step.weights, model=own):
        raise CheckpointMismatchError(mismatch, path=step_file(step.iteration, rank=MAIN_RANK))
    model.load_state_dict({**own, **step.weights})


def _precision(cfg: CfgNode, step: SavedStep, *, device: torch.device) -> Precision:
    precision = Precision(cfg.SOLVER.PRECISION, device=device)
    try:
        check_state(step.precision, like=precision.state_dict(), name="precision")
        precision.load_state_dict(step.precision)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"the state of the loss scaling is damaged. Received: {error}") from None
    return precision


def _differences(step: SavedStep, *, cfg: CfgNode, device: torch.device) -> Iterator[str]:
    if step.world_size > 1:
        yield (
            f"the run had {step.world_size} processes, which share gradients, loss normalizers, mean costs and the "
            "statistics of SyncBN"
        )
    if (name := device_name(device)) != step.device:
        yield f"the run used {step.device}, this replay uses {name}"
    elif device.type == "cuda":
        yield "some operations on a GPU are not deterministic"
    yield from (
        f"{key} was {step.config[key]!r} and is {value!r} now"
        for key, value in cfg.flat().items()
        if key != "MODEL.DEVICE" and step.config.get(key, value) != value
    )
    for name, version in library_versions().items():
        if step.versions.get(name) != version:
            yield f"{name} was {step.versions.get(name)} and is {version} now"
    if step.threads != _usable(step.threads):
        yield f"the run used {step.threads} threads for an operation, this replay uses {_usable(step.threads)}"


def _usable(threads: int) -> int:
    return min(threads, os.cpu_count() or 1)


@contextmanager
def _threads(number: int) -> Iterator[None]:
    """Context with a number of threads for an operation, which the order of sums depends on."""
    before = torch.get_num_threads()
    torch.set_num_threads(_usable(number))
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _has_finite_gradients(layer: LayerStatistics) -> bool:
    norms = (layer.output_gradient, layer.weight_gradient)
    return all(norm is None or math.isfinite(norm) for norm in norms)
