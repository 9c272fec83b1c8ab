"""Activation checkpointing: what a function needs for its gradients is computed again instead of being kept.

Source: arXiv 1604.06174; torch's checkpoint does it. Batch norms are made to count a batch once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, TypeVar

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

__all__ = ["checkpointed"]

Result = TypeVar("Result")


def checkpointed(function: Callable[..., Result], *arguments: Any, modules: Sequence[nn.Module]) -> Result:
    """The function's result; in the backward pass it runs a second time, with equal random numbers.

    Args:
        function: of tensors, or lists of them.
        arguments: of the function.
        modules: those that run in it, whose running statistics the second time leaves alone.
    """

    def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), _statistics_kept(modules)

    return checkpoint(function, *arguments, use_reentrant=False, context_fn=contexts)


@contextmanager
def _statistics_kept(modules: Sequence[nn.Module]) -> Iterator[None]:
    """Batch norms take the statistics of what they see, as in training, and do not add them to their running ones."""
    norms = [norm for module in modules for norm in module.modules() if isinstance(norm, _BatchNorm)]
    before = [(norm, norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm, _, batches in before:
        # A copy, and not None: synchronised norms count in it without asking.
        norm.momentum, norm.num_batches_tracked = 0.0, None if batches is None else batches.clone()
    try:
        yield
    finally:
        for norm, momentum, batches in before:
            norm.momentum, norm.num_batches_tracked = momentum, batches
