"""Selection and comparison of the evaluation metric that a hook tracks."""

from __future__ import annotations

from dl_lib.config import ConfigError
from dl_lib.config.choices import MetricMode
from dl_lib.utils.events import EventStorage
from dl_lib.utils.names import nearest_names

__all__ = ["is_better", "tracked_metric"]


def tracked_metric(events: EventStorage, name: str, *, key: str, seen_before: bool) -> float | None:
    """Return an evaluation metric of the current iteration, or None if there was no evaluation or it is not finite.

    Args:
        events: Events of the run.
        name: Name of the metric.
        key: Config key that sets the name, for the error message.
        seen_before: Whether an earlier evaluation had this metric, in which case the name is valid even if the value is
            missing.

    Raises:
        ConfigError: If the evaluation has other metrics of the same dataset but never had this one.
    """
    metrics = events.current_eval_metrics()
    value = metrics.get(name)
    dataset, separator, _ = name.rpartition("/")  # has no metrics if its evaluation failed, which ends the run later
    metrics = {other: score for other, score in metrics.items() if other.startswith(dataset + separator)}
    if metrics and value is None and not seen_before:
        raise ConfigError(
            f"{key} must name a finite metric of the evaluation; {nearest_names(name, metrics)}. "
            f"Received: {key}={name!r}"
        )
    return value


def is_better(value: float, best: float | None, *, mode: MetricMode, min_delta: float = 0.0) -> bool:
    """Return whether a value improves on the best one by more than `min_delta`, or is the first."""
    sign = 1 if mode == "max" else -1
    return best is None or sign * (value - best) > min_delta
