"""Context managers for the training mode of a model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

__all__ = ["evaluation_mode", "preserve_training_mode"]


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
