"""Precise batch norm: running statistics recomputed with fixed weights (arXiv 2105.07576, section 3).

The statistics are accumulated by fvcore.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from dl_lib.engine.training.hook import PeriodicHook
from dl_lib.engine.training.random_state import preserve_random_state
from dl_lib.utils import comm
from dl_lib.utils.modes import preserve_training_mode

if TYPE_CHECKING:
    from dl_lib.engine.training.trainer import Trainer

__all__ = ["PreciseBN", "recompute_norm_statistics"]

Statistics = tuple[Tensor, Tensor]  # mean and variance, (channels,) each


class PreciseBN(PeriodicHook):
    """Hook that recomputes the running statistics of batch norms periodically and at the end.

    Must come before the hooks that save and evaluate. Each process uses its own batches; the statistics are combined
    over all processes.

    Args:
        make_loader: Function that returns a new iterable of batches, independent of the training loader.
        num_batches: Batches to use on each process.
        period: Iterations between two runs, the same as for the evaluation; 0 runs only at the end.
        model: Model whose norms are updated; None uses the trainer's model.
    """

    def __init__(
        self,
        make_loader: Callable[[], Iterable[Any]],
        *,
        num_batches: int,
        period: int,
        model: nn.Module | None = None,
    ) -> None:
        super().__init__(period=period)
        self._make_loader = make_loader
        self._model = model
        self._num_batches = num_batches

    def run(self, trainer: Trainer) -> None:
        with trainer.interruptible(), preserve_random_state():
            model = self._model or comm.unwrap(trainer.model)
            recompute_norm_statistics(model, batches=self._make_loader(), num_batches=self._num_batches)


def recompute_norm_statistics(model: nn.Module, *, batches: Iterable[Any], num_batches: int) -> None:
    """Set running means and variances to the statistics of the given batches, computed with the current weights.

    The model runs in training mode without a `step_rate`, so without drop path and at the current temperature of its
    dynamic convolutions, as in evaluation. Norms that no batch reaches keep their statistics, and so do all norms if an
    error occurs. Every process must call this, with the same number of its own batches.

    Args:
        model: Model that takes a batch; each module's training mode is restored.
        batches: At least `num_batches` batches.
        num_batches: Batches to use.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # importing fvcore.nn calls torch.jit
        from fvcore.nn.precise_bn import get_bn_modules, update_bn_stats

    with preserve_training_mode(model):
        norms: list[Any] = get_bn_modules(model.train())
        states = [_NormState(norm) for norm in norms]
        try:
            update_bn_stats(model, batches, num_batches)
            computed = _over_processes(
                [state.computed() for state in states], like=[norm.running_mean for norm in norms]
            )
            for state, statistics in zip(states, computed, strict=True):
                state.accept(statistics)
        finally:
            for state in states:
                state.restore()


class _NormState:
    """Backup of the attributes that fvcore replaces in a norm. Buffer objects are kept, not replaced."""

    def __init__(self, norm: Any) -> None:
        self._norm = norm
        self._momentum = norm.momentum
        self._buffers = (norm.running_mean, norm.running_var)
        self._values: Statistics = (norm.running_mean.clone(), norm.running_var.clone())
        self._num_batches_tracked = int(norm.num_batches_tracked)

    def computed(self) -> Statistics | None:
        """Return the new statistics, or None if the norm did not run."""
        if int(self._norm.num_batches_tracked) == self._num_batches_tracked:
            return None
        return self._norm.running_mean.clone(), self._norm.running_var.clone()

    def accept(self, statistics: Statistics | None) -> None:
        """Replace the values to restore, unless the norm did not run."""
        self._values = statistics or self._values

    @torch.no_grad()
    def restore(self) -> None:
        """Restore momentum, batch counter and buffers; the buffers receive the accepted or the original values."""
        for buffer, value in zip(self._buffers, self._values, strict=True):
            buffer.copy_(value)
        self._norm.running_mean, self._norm.running_var = self._buffers
        self._norm.momentum = self._momentum
        self._norm.num_batches_tracked.fill_(self._num_batches_tracked)


def _over_processes(computed: Sequence[Statistics | None], *, like: Sequence[Tensor]) -> list[Statistics | None]:
    """Combine statistics over all processes: the mean of the means, and the total variance about that mean.

    Args:
        computed: Statistics per norm; None where the norm did not run on this process.
        like: Tensor with the shape, dtype and device of the mean, for each norm.

    Returns:
        Statistics per norm; None where it ran on no process.
    """
    if comm.get_world_size() == 1 or not computed:
        return list(computed)
    # One collective for all norms: per norm a flag whether it ran, its mean and its mean square, or zeros.
    moments = [_moments(statistics, like=mean) for statistics, mean in zip(computed, like, strict=True)]
    averaged = comm.average(torch.cat(moments)).split([len(values) for values in moments])
    return [_statistics(values, like=mean) for values, mean in zip(averaged, like, strict=True)]


def _moments(statistics: Statistics | None, *, like: Tensor) -> Tensor:
    if statistics is None:
        return like.new_zeros(1 + 2 * len(like), dtype=torch.float64)
    mean, variance = (values.double() for values in statistics)
    return torch.cat([mean.new_ones(1), mean, variance + mean.square()])


def _statistics(moments: Tensor, *, like: Tensor) -> Statistics | None:
    ran, mean, mean_square = moments.split([1, len(like), len(like)])
    if ran == 0:
        return None
    mean, mean_square = mean / ran, mean_square / ran
    return mean.to(like.dtype), (mean_square - mean.square()).to(like.dtype)
