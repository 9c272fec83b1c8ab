"""Activation checkpointing that updates batch-norm running statistics once (arXiv 1604.06174)."""

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
    """Call a function, and recompute it in the backward pass instead of keeping its activations.

    The arguments are tensors, or lists or dicts of tensors. The second call uses the same random numbers and leaves the
    running statistics of `modules`, which the function calls, unchanged.
    """

    def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), _running_statistics_frozen(modules)

    return checkpoint(function, *arguments, use_reentrant=False, context_fn=contexts)


@contextmanager
def _running_statistics_frozen(modules: Sequence[nn.Module]) -> Iterator[None]:
    """Context manager in which batch norms use batch statistics without updating their running statistics."""
    norms = [norm for module in modules for norm in module.modules() if isinstance(norm, _BatchNorm)]
    saved = [(norm, norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm, _, batches in saved:
        # A copy instead of None, because synchronized batch norms increment the counter unconditionally.
        norm.momentum, norm.num_batches_tracked = 0.0, None if batches is None else batches.clone()
    try:
        yield
    finally:
        for norm, momentum, batches in saved:
            norm.momentum, norm.num_batches_tracked = momentum, batches
