"""Exact statistics for batch norms, from weights that stand still.

Source: "Rethinking Batch in BatchNorm" (arXiv 2105.07576), section 3; the sums are fvcore's.
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
    """Recomputes the running statistics every so many iterations and at the end.

    Belongs before the hooks that save and evaluate. Each process looks at batches of its own; the statistics are those
    of all of them together.

    Args:
        make_loader: gives a new source of batches, so that those of the training stay untouched.
        num_batches: how many of them are looked at.
        period: iterations between two times, as of the evaluation; 0 does it at the end only.
        model: whose norms; None for those of the model that is trained.
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
    """Sets running means and variances to those over whole batches, all seen with the present weights.

    The model runs in training mode without a `step_rate`: as in evaluation without drop path, and at the temperature
    that its dynamic convolutions have.
    A norm that no batch reaches keeps what it had, and so do all of them if something goes wrong on the way.
    Of several processes each gives its batches, equally many of them; every process has to call this.

    Args:
        model: takes a batch; every module keeps its mode.
        batches: as the model takes them, `num_batches` at least.
        num_batches: how many are looked at.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # fvcore.nn compiles with torch.jit while it is imported
        from fvcore.nn.precise_bn import get_bn_modules, update_bn_stats

    with preserve_training_mode(model):
        norms: list[Any] = get_bn_modules(model.train())
        before = [_NormState(norm) for norm in norms]
        try:
            update_bn_stats(model, batches, num_batches)
            found = _over_processes([state.found() for state in before], like=[norm.running_mean for norm in norms])
            for state, statistics in zip(before, found, strict=True):
                state.take_over(statistics)
        finally:
            for state in before:
                state.restore()


class _NormState:
    """What fvcore replaces in a norm. The buffers themselves stay in place, as others may hold them."""

    def __init__(self, norm: Any) -> None:
        self._norm = norm
        self._momentum = norm.momentum
        self._buffers = (norm.running_mean, norm.running_var)
        self._values: Statistics = (norm.running_mean.clone(), norm.running_var.clone())
        self._uses = int(norm.num_batches_tracked)

    def found(self) -> Statistics | None:
        """The new statistics, if the norm was run at all."""
        if int(self._norm.num_batches_tracked) == self._uses:
            return None
        return self._norm.running_mean.clone(), self._norm.running_var.clone()

    def take_over(self, statistics: Statistics | None) -> None:
        """Keeps new statistics, if there are any."""
        self._values = statistics or self._values

    @torch.no_grad()
    def restore(self) -> None:
        """Puts buffers and momentum back, the buffers filled with the old or the kept values; no batch has counted."""
        for buffer, value in zip(self._buffers, self._values, strict=True):
            buffer.copy_(value)
        self._norm.running_mean, self._norm.running_var = self._buffers
        self._norm.momentum = self._momentum
        self._norm.num_batches_tracked.fill_(self._uses)


def _over_processes(found: Sequence[Statistics | None], *, like: Sequence[Tensor]) -> list[Statistics | None]:
    """What all processes found together: the mean of their means, and the variance round that mean.

    Args:
        found: for each norm; None where this process did not run it.
        like: for each norm a tensor as its mean is.
    """
    if comm.get_world_size() == 1 or not found:
        return list(found)
    # One message for all norms; of each whether it ran here, its mean and its mean square, or zeros.
    moments = [_moments(statistics, like=mean) for statistics, mean in zip(found, like, strict=True)]
    together = comm.average(torch.cat(moments)).split([len(part) for part in moments])
    return [_statistics(part, like=mean) for part, mean in zip(together, like, strict=True)]


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
