"""Training and evaluation mode of a model, for a while."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

__all__ = ["evaluation_mode", "no_side_effects", "preserve_training_mode"]


@contextmanager
def preserve_training_mode(model: nn.Module) -> Iterator[None]:
    """Afterwards each module of the model is in the mode that it is in now."""
    modes = {module: module.training for module in model.modules()}
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Switches the whole model to evaluation; afterwards each of its modules is in the mode that it was in."""
    with preserve_training_mode(model):
        model.eval()
        yield


@contextmanager
def no_side_effects(model: nn.Module) -> Iterator[None]:
    """What runs inside leaves no trace: no gradients, buffers as they were, and random numbers that come again.

    Args:
        model: whose buffers, running statistics among them, are kept.
    """
    before = [(buffer, buffer.clone()) for buffer in model.buffers()]
    devices = sorted({parameter.device.index for parameter in model.parameters() if parameter.device.type == "cuda"})
    try:
        with torch.no_grad(), torch.random.fork_rng(devices):
            yield
    finally:
        for buffer, values in before:
            buffer.copy_(values)
