"""Learning rates as pure functions of how far a training is.

A shape takes progress in [0, 1] to a share of the base learning rate; a linear warm-up (arXiv 1706.02677, section 2.2)
is multiplied with it. fvcore has the polynomial (DeepLab, arXiv 1606.00915, section 4.1.1) and the cosine (arXiv
1608.03983, equation 5, without restarts); the others are here.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence

from fvcore.common.param_scheduler import CosineParamScheduler

__all__ = ["Shape", "multi_step_factor", "one_cycle_factor", "scheduled_factor", "warmup_factor"]

Shape = Callable[[float], float]


def scheduled_factor(iteration: int, *, shape: Shape, max_iter: int, warmup_iters: int, warmup_start: float) -> float:
    """The learning rate while an iteration (counted from 0) runs, as a share of the base learning rate.

    Args:
        iteration: steps done; from `max_iter` on the shape stays at its end.
        shape: progress to a share.
        max_iter: iterations of the training.
        warmup_iters: see `warmup_factor`.
        warmup_start: see `warmup_factor`.
    """
    warmup = warmup_factor(iteration, num_iterations=warmup_iters, start=warmup_start)
    return warmup * shape(min(1.0, iteration / max_iter))


def warmup_factor(iteration: int, *, num_iterations: int, start: float) -> float:
    """Grows linearly from `start` at iteration 0 to 1 at `num_iterations`, and stays there."""
    if iteration >= num_iterations:
        return 1.0
    done = iteration / num_iterations
    return start * (1 - done) + done


def multi_step_factor(progress: float, *, steps: Sequence[float], gamma: float) -> float:
    """`gamma` to the power of how many of the steps (in [0, 1], ascending) are reached.

    Not fvcore's: it takes what is 1e-6 of the training away for reached, which is whole iterations of a long one.
    """
    return float(gamma ** bisect_right(steps, progress))


def one_cycle_factor(progress: float, *, peak_at: float, start: float, end: float) -> float:
    """Half a cosine from `start` up to 1, and half of one down to `end` (arXiv 1708.07120, section 3, with cosines).

    Args:
        progress: in [0, 1].
        peak_at: progress at which it is 1, in (0, 1).
        start: value at 0.
        end: value at 1.
    """
    if progress < peak_at:
        return float(CosineParamScheduler(start, 1.0)(progress / peak_at))
    return float(CosineParamScheduler(1.0, end)((progress - peak_at) / (1 - peak_at)))
