"""Training and evaluation mode of a model, for a while."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

__all__ = ["evaluation_mode", "modes_kept"]


@contextmanager
def modes_kept(model: nn.Module) -> Iterator[None]:
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
    with modes_kept(model):
        model.eval()
        yield
