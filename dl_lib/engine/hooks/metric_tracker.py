"""A score that decides something: found among those of an evaluation, and compared with the best one so far."""

from __future__ import annotations

from dl_lib.config import ConfigError
from dl_lib.config.choices import MetricMode
from dl_lib.utils.events import EventStorage
from dl_lib.utils.names import nearest_names

__all__ = ["is_better", "tracked_metric"]


def tracked_metric(events: EventStorage, name: str, *, key: str, seen_before: bool) -> float | None:
    """The value of this name that came in at the present iteration; None if nothing was evaluated, or gave none.

    Args:
        events: of the run.
        name: of a score that evaluations put there.
        key: of the configuration, which gives the name.
        seen_before: whether the name is known to be right; a score may be no number once in a while.

    Raises:
        ConfigError: if there are scores, none of this name, and it has not been seen before.
    """
    scores = events.current_eval_metrics()
    value = scores.get(name)
    if scores and value is None and not seen_before:
        raise ConfigError(
            f"the evaluation gives no score of this name that is a number; {nearest_names(name, scores)}. "
            f"Received: {key}={name!r}"
        )
    return value


def is_better(value: float, best: float | None, *, mode: MetricMode, min_delta: float = 0.0) -> bool:
    """Whether a value is better than the best one so far by more than `min_delta`; it is if there was none."""
    sign = 1 if mode == "max" else -1
    return best is None or sign * (value - best) > min_delta
