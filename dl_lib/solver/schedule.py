"""Learning rate schedules as pure functions of training progress.

A shape maps progress in [0, 1] to a factor of the base learning rate; it is multiplied by a linear warmup (arXiv
1706.02677, section 2.2). fvcore provides the polynomial shape (DeepLab, arXiv 1606.00915, section 4.1.1) and the cosine
shape (arXiv 1608.03983, equation 5, without restarts).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence

from fvcore.common.param_scheduler import CosineParamScheduler

__all__ = ["Shape", "multi_step_factor", "one_cycle_factor", "scheduled_factor", "warmup_factor"]

Shape = Callable[[float], float]


def scheduled_factor(iteration: int, *, shape: Shape, max_iter: int, warmup_iters: int, warmup_start: float) -> float:
    """Return the factor of the base learning rate during an iteration (from 0).

    Args:
        iteration: Completed steps; from `max_iter` on, the shape keeps its final value.
        shape: Function from progress to a factor.
        max_iter: Iterations of the training.
        warmup_iters: Iterations of the warmup.
        warmup_start: Warmup factor at iteration 0.
    """
    warmup = warmup_factor(iteration, num_iterations=warmup_iters, start=warmup_start)
    return warmup * shape(min(1.0, iteration / max_iter))


def warmup_factor(iteration: int, *, num_iterations: int, start: float) -> float:
    """Return the linear warmup from `start` at iteration 0 to 1 at `num_iterations` and after."""
    if iteration >= num_iterations:
        return 1.0
    done = iteration / num_iterations
    return start * (1 - done) + done


def multi_step_factor(progress: float, *, steps: Sequence[float], gamma: float) -> float:
    """Return `gamma` to the power of the number of steps (ascending, in [0, 1]) reached.

    fvcore's multi-step scheduler is not used: it treats a step within 1e-6 of the progress as reached, which is early
    by whole iterations in a long training.
    """
    return float(gamma ** bisect_right(steps, progress))


def one_cycle_factor(progress: float, *, peak_at: float, start: float, end: float) -> float:
    """Return the one-cycle factor: half a cosine up to 1, then half a cosine down (arXiv 1708.07120, section 3).

    The paper's linear ramps are replaced by cosines.

    Args:
        progress: Progress in [0, 1].
        peak_at: Progress of the peak, in (0, 1).
        start: Factor at progress 0.
        end: Factor at progress 1.
    """
    if progress < peak_at:
        return float(CosineParamScheduler(start, 1.0)(progress / peak_at))
    return float(CosineParamScheduler(1.0, end)((progress - peak_at) / (1 - peak_at)))
