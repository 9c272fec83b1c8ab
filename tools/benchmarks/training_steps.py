"""Training steps of the benchmarks, on random images and labels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from harness import Case, Run, Settings
from networks import build_network, default_config, random_image
from torch import Tensor, nn

from dl_lib.config import CfgNode
from dl_lib.modeling.costs.costs import MADDS_PER_GFLOP, MADDS_PER_MFLOP
from dl_lib.solver import build_lr_scheduler, build_optimizer

STEP_RATE = 0.5


@dataclass(frozen=True)
class TrainingCase(Case):
    """Forward, backward and optimizer step of the default network, from random weights."""

    name: str
    images: int
    side: int  # height and width in pixels
    overrides: tuple[Any, ...] = ()  # of the default configuration, as key, value, key, value

    @property
    def group(self) -> str:
        return f"{self.images}x{self.side}x{self.side}"

    def config(self, settings: Settings) -> CfgNode:
        """Return the configuration of the network and of its training."""
        return default_config(settings, ["INPUT.CROP_SIZE", [self.side, self.side], *self.overrides])

    def prepare(self, settings: Settings) -> Run:
        return library_step(self.config(settings), num_images=self.images)


def library_step(cfg: CfgNode, *, num_images: int) -> Run:
    """Return a training step of a new network; the step returns the GFLOPs of one image's forward pass."""
    model = build_network(cfg).train()
    optimizer = build_optimizer(cfg, model)
    build_lr_scheduler(cfg, optimizer)  # sets the first rate of the warmup; at the full one the loss diverges
    return model_step(model, optimizer, random_batch(cfg, num_images=num_images, device=model.device))


def random_batch(cfg: CfgNode, *, num_images: int, device: torch.device) -> list[dict[str, Tensor]]:
    """Return images and labels of the size of the training crop."""
    size, classes = tuple(cfg.INPUT.CROP_SIZE), cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES
    images = [random_image(size, device=device) for _ in range(num_images)]
    labels = [torch.randint(classes, size, device=device) for _ in range(num_images)]
    return [{"image": image, "sem_seg": label} for image, label in zip(images, labels, strict=True)]


def model_step(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    batch: Sequence[dict[str, Any]],
    *,
    max_norm: float | None = None,
) -> Run:
    """Return a training step of a model of the library, on one batch; see `optimizer_step`."""

    def loss() -> tuple[Tensor, float]:
        losses, flops = model(batch, step_rate=STEP_RATE)
        gflops = flops["executed_flops"].item() * MADDS_PER_MFLOP / MADDS_PER_GFLOP
        return torch.stack(list(losses.values())).sum(), gflops

    return optimizer_step(optimizer, loss, max_norm=max_norm)


def optimizer_step(
    optimizer: torch.optim.Optimizer, loss: Callable[[], tuple[Tensor, float]], *, max_norm: float | None = None
) -> Run:
    """Return a training step.

    Args:
        optimizer: Optimizer of the parameters.
        loss: Function that returns the loss (0-d) and the result of the step.
        max_norm: Norm of all gradients together that they are clipped to; None does not clip.
    """
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]

    def run() -> float:
        optimizer.zero_grad(set_to_none=True)
        value, result = loss()
        value.backward()
        if max_norm is not None:
            nn.utils.clip_grad_norm_(parameters, max_norm)
        optimizer.step()
        return result

    return run
