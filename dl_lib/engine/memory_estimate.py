"""Peak memory of training steps and predictions, predicted on fake tensors.

Both run as in training and evaluation, with all gates open, but without values: nothing of the real size is computed
or allocated.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from dl_lib.config import CfgNode
from dl_lib.engine.fake_execution import fake_copy, fake_execution, fake_mode
from dl_lib.engine.training.ema import ModelEMA
from dl_lib.engine.training.precision import Precision
from dl_lib.engine.training.train_step import Batch, GradientClip, TrainStep
from dl_lib.evaluation.runner.run import optimized_copy
from dl_lib.modeling import SegmentationModel
from dl_lib.modeling.costs.live_memory import LiveMemory
from dl_lib.solver import build_optimizer

__all__ = ["MemoryEstimate", "estimate_inference", "estimate_training", "prepare_training"]

_STEP_RATE = 0.5
_MAX_MICRO_BATCHES = 2  # the second one finds the gradients of the first; further ones are like it


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes of the tensors on the device that exist at the same time.

    Memory that operations use internally and fragmentation of the allocator are not included.

    Attributes:
        weight_bytes: Parameters and buffers.
        optimizer_bytes: State of the optimizer, and copy of the weights for their EMA.
        peak_bytes: Peak of all tensors.
    """

    weight_bytes: int
    optimizer_bytes: int
    peak_bytes: int

    @property
    def activation_bytes(self) -> int:
        """Feature maps, gradients, images and all other tensors at the peak."""
        return self.peak_bytes - self.weight_bytes - self.optimizer_bytes


def estimate_training(
    cfg: CfgNode, model: SegmentationModel, *, size: tuple[int, int], num_images: int
) -> MemoryEstimate:
    """Predict the peak memory of a training step after the first one, which creates the optimizer's state.

    Args:
        cfg: Full config.
        model: Model of the config, which is not changed.
        size: Height and width of the images in pixels.
        num_images: Images per forward pass.

    Raises:
        ValueError: If the model cannot be trained on such a batch; torch raises RuntimeError for impossible shapes.
        ConfigError: If an operation needs the values of its tensors.
    """
    mode, memory = fake_mode(), LiveMemory(model.device)
    network = fake_copy(model, mode=mode).train()
    memory.track(_weights(network))
    weight_bytes = memory.live_bytes
    with fake_execution(mode, memory):
        step = prepare_training(cfg, network)
        optimizer_bytes = memory.live_bytes - weight_bytes
        micro_batches = min(cfg.SOLVER.ACCUMULATION_STEPS, _MAX_MICRO_BATCHES)
        step([_batch(size, num_images=num_images) for _ in range(micro_batches)])
    return MemoryEstimate(weight_bytes, optimizer_bytes, memory.peak_bytes)


def estimate_inference(
    cfg: CfgNode, model: SegmentationModel, *, size: tuple[int, int], num_images: int
) -> MemoryEstimate:
    """Predict the peak memory of one prediction by the copy that evaluation runs, with logits at the image size.

    Arguments and errors are those of `estimate_training`.
    """
    mode, memory = fake_mode(), LiveMemory(model.device)
    network = fake_copy(optimized_copy(cfg, model), mode=mode).eval()
    memory.track(_weights(network))
    weight_bytes = memory.live_bytes
    with fake_execution(mode, memory), torch.no_grad():
        network(_batch(size, num_images=num_images))
    return MemoryEstimate(weight_bytes, 0, memory.peak_bytes)


def prepare_training(cfg: CfgNode, model: nn.Module) -> Callable[[Sequence[Batch]], None]:
    """Return a function that runs a training step on micro-batches; the state of the optimizer exists already."""
    optimizer = build_optimizer(cfg, model)
    step = TrainStep(
        model,
        optimizer,
        clip=GradientClip(cfg.SOLVER.GRAD_CLIP, cfg.SOLVER.GRAD_CLIP_TYPE),
        precision=Precision(cfg.SOLVER.PRECISION, device=next(model.parameters()).device),
    )
    ema = ModelEMA(model, decay=cfg.SOLVER.EMA.DECAY) if cfg.SOLVER.EMA.DECAY else None
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter) if parameter.requires_grad else None
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)

    def run(micro_batches: Sequence[Batch]) -> None:
        step.backward(micro_batches, step_rate=_STEP_RATE)
        optimizer.step()  # not that of the scaler, which skips steps with infinite gradients
        if ema is not None:
            ema.update(model)

    return run


def _weights(model: nn.Module) -> Iterable[Tensor]:
    return [*model.parameters(), *model.buffers()]


def _batch(size: tuple[int, int], *, num_images: int) -> list[dict[str, Any]]:
    height, width = size
    return [
        {
            "image": torch.empty(3, height, width, dtype=torch.uint8),
            "sem_seg": torch.empty(height, width, dtype=torch.uint8),
        }
        for _ in range(num_images)
    ]
