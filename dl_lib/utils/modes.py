"""Context managers for the training mode and the state of a model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

__all__ = ["evaluation_mode", "no_side_effects", "preserve_training_mode"]


@contextmanager
def preserve_training_mode(model: nn.Module) -> Iterator[None]:
    """Context manager that restores each module's training mode on exit."""
    modes = {module: module.training for module in model.modules()}
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Context manager that sets the model to evaluation mode and restores each module's training mode on exit."""
    with preserve_training_mode(model):
        model.eval()
        yield


@contextmanager
def no_side_effects(model: nn.Module) -> Iterator[None]:
    """Context manager without gradients that restores the model's buffers and torch's random state on exit."""
    before = [(buffer, buffer.clone()) for buffer in model.buffers()]
    devices = sorted({parameter.device.index for parameter in model.parameters() if parameter.device.type == "cuda"})
    try:
        with torch.no_grad(), torch.random.fork_rng(devices):
            yield
    finally:
        for buffer, values in before:
            buffer.copy_(values)
