"""Exact statistics for batch norms, from weights that stand still.

Source: "Rethinking Batch in BatchNorm" (arXiv 2105.07576), section 3; the sums are fvcore's.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from dl_lib.engine.distributed import unwrap
from dl_lib.engine.hooks.base import Hook

if TYPE_CHECKING:
    from dl_lib.engine.trainer import Trainer

__all__ = ["PreciseBN", "recompute_norm_statistics"]


class PreciseBN(Hook):
    """Recomputes the running statistics every so many iterations and at the end.

    Belongs before the hooks that save and evaluate. Each process does it with its own batches.

    Args:
        make_loader: gives a new source of batches, so that those of the training stay untouched.
        num_batches: how many of them are looked at.
        period: iterations between two times, as of the evaluation; 0 does it at the end only.
    """

    def __init__(self, make_loader: Callable[[], Iterable[Any]], *, num_batches: int, period: int) -> None:
        self._make_loader = make_loader
        self._num_batches = num_batches
        self._period = period

    def after_step(self, trainer: Trainer) -> None:
        if self._period > 0 and trainer.iteration % self._period == 0 and trainer.iteration < trainer.max_iter:
            self._run(trainer)

    def after_train(self, trainer: Trainer) -> None:
        self._run(trainer)

    def _run(self, trainer: Trainer) -> None:
        with trainer.interruptible():
            recompute_norm_statistics(unwrap(trainer.model), batches=self._make_loader(), num_batches=self._num_batches)


def recompute_norm_statistics(model: nn.Module, *, batches: Iterable[Any], num_batches: int) -> None:
    """Sets running means and variances to those over whole batches, all seen with the present weights.

    The model runs in training mode at its default `step_rate` of 0, that is without drop path, as in evaluation.
    A norm that no batch reaches keeps what it had, and so do all of them if something goes wrong on the way.

    Args:
        model: takes a batch; every module keeps its mode.
        batches: as the model takes them, `num_batches` at least.
        num_batches: how many are looked at.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # fvcore.nn compiles with torch.jit while it is imported
        from fvcore.nn.precise_bn import get_bn_modules, update_bn_stats

    modes = {module: module.training for module in model.modules()}
    model.train()
    norms: list[Any] = get_bn_modules(model)
    before = [_NormState(norm) for norm in norms]
    try:
        update_bn_stats(model, batches, num_batches)
        for state in before:
            state.take_over()
    finally:
        for state in before:
            state.restore()
        for module, training in modes.items():
            module.training = training


class _NormState:
    """What fvcore replaces in a norm. The buffers themselves stay in place, as others may hold them."""

    def __init__(self, norm: Any) -> None:
        self._norm = norm
        self._momentum = norm.momentum
        self._buffers = (norm.running_mean, norm.running_var)
        self._values = tuple(buffer.clone() for buffer in self._buffers)
        self._uses = int(norm.num_batches_tracked)

    def take_over(self) -> None:
        """Keeps the new statistics, if the norm was run at all."""
        if int(self._norm.num_batches_tracked) > self._uses:
            self._values = (self._norm.running_mean.clone(), self._norm.running_var.clone())

    @torch.no_grad()
    def restore(self) -> None:
        """Puts buffers and momentum back, the buffers filled with the old or the kept values."""
        for buffer, value in zip(self._buffers, self._values, strict=True):
            buffer.copy_(value)
        self._norm.running_mean, self._norm.running_var = self._buffers
        self._norm.momentum = self._momentum
