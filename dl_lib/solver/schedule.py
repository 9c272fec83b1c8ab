"""Learning rates as pure functions of the iteration.

Source: the polynomial schedule of DeepLab (arXiv 1606.00915, section 4.1.1) with a linear warm-up (arXiv 1706.02677,
section 2.2), multiplied with each other.
"""

from __future__ import annotations

__all__ = ["poly_factor", "warmup_factor", "warmup_poly_factor"]


def warmup_factor(iteration: int, *, num_iterations: int, start: float) -> float:
    """Grows linearly from `start` at iteration 0 to 1 at `num_iterations`, and stays there."""
    if iteration >= num_iterations:
        return 1.0
    done = iteration / num_iterations
    return start * (1 - done) + done


def poly_factor(iteration: int, *, max_iter: int, power: float) -> float:
    """(1 - iteration / max_iter) ** power; 0 from `max_iter` on."""
    # Written as published: (max_iter - iteration) / max_iter differs in the tenth digit near the end.
    return max(0.0, 1 - iteration / max_iter) ** power


def warmup_poly_factor(iteration: int, *, max_iter: int, power: float, warmup_iters: int, warmup_start: float) -> float:
    """The learning rate while an iteration (counted from 0) runs, as a share of the base learning rate."""
    warmup = warmup_factor(iteration, num_iterations=warmup_iters, start=warmup_start)
    return warmup * poly_factor(iteration, max_iter=max_iter, power=power)
