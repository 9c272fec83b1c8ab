"""Storage of the scalars of a run, by name and iteration.

The storage is passed explicitly to its users; there is no global storage. Iteration n means that n optimizer steps are
done, so the losses of the first step are recorded at iteration 1.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping
from statistics import median
from typing import Any, Literal

from fvcore.common.history_buffer import HistoryBuffer

from dl_lib.utils.names import nearest_names

__all__ = ["EventStorage", "ScalarKind", "window_start"]

ScalarKind = Literal["step", "latest", "evaluation"]

_HISTORY_LENGTH = 1000  # values kept per scalar, also in a checkpoint


def window_start(iteration: int, *, period: int) -> int:
    """Return the last multiple of a logging period before an iteration.

    Windows start at multiples of the period rather than at the previous line, so that a run that was stopped in between
    and resumed logs the same values.
    """
    return (iteration - 1) // period * period


class EventStorage:
    """Histories of scalars.

    Args:
        iteration: Optimizer steps done before this run.

    Attributes:
        iteration: Optimizer steps done; advanced by the training loop.
    """

    def __init__(self, *, iteration: int = 0) -> None:
        self.iteration = iteration
        self._histories: dict[str, HistoryBuffer] = {}
        self._kinds: dict[str, ScalarKind] = {}

    def put(self, scalars: Mapping[str, float], *, kind: ScalarKind = "step") -> None:
        """Record the finite scalars at the current iteration.

        Args:
            scalars: Values by name; a name includes its unit, such as `data_seconds`.
            kind: Value to log: the median over the iterations since the previous multiple of `LOG_PERIOD` (`step`), the
                latest value (`latest`: learning rate, peak memory), or every value (`evaluation`).
        """
        for name, value in scalars.items():
            if not math.isfinite(value):
                continue
            self._kinds[name] = kind
            self._histories.setdefault(name, HistoryBuffer(_HISTORY_LENGTH)).update(float(value), self.iteration)

    def current_eval_metrics(self) -> dict[str, float]:
        """Return the evaluation metrics recorded at the current iteration."""
        return self.evaluations(after=self.iteration - 1).get(self.iteration, {})

    def current(self, name: str) -> float | None:
        """Return the value of a scalar at the current iteration; None if there is no finite one."""
        values = self._histories[name].values() if name in self._histories else []
        value, iteration = values[-1] if values else (None, None)
        return value if iteration == self.iteration else None

    def latest(self, name: str) -> float:
        """Return the latest value of a scalar; raise KeyError if there is none of this name."""
        return self._history(name).latest()

    def summary(self, *, after: int) -> dict[str, float]:
        """Return the values to log of all scalars recorded after an iteration, except evaluation metrics.

        See `put` for the value of each kind. A median includes at most the latest 1000 values; steps without a finite
        value, which are skipped, are not part of it.
        """
        scalars = {}
        for name, history in self._histories.items():
            values = [value for value, _ in _values_after(history, after)]
            if values and self._kinds[name] != "evaluation":
                scalars[name] = values[-1] if self._kinds[name] == "latest" else median(values)
        return scalars

    def evaluations(self, *, after: int) -> dict[int, dict[str, float]]:
        """Return the evaluation metrics recorded after an iteration, grouped by their iteration in ascending order."""
        metrics: dict[int, dict[str, float]] = {}
        for name, history in self._histories.items():
            if self._kinds[name] == "evaluation":
                for value, recorded_at in _values_after(history, after):
                    metrics.setdefault(int(recorded_at), {})[name] = value
        return dict(sorted(metrics.items()))

    def state_dict(self) -> dict[str, Any]:
        """Return all values, so that a resumed run logs the same medians and those evaluations not yet written."""
        return {
            "kinds": dict(self._kinds),
            "values": {name: [value for value, _ in history.values()] for name, history in self._histories.items()},
            "iterations": {name: [at for _, at in history.values()] for name, history in self._histories.items()},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load a state returned by `state_dict`, which does not contain `iteration`: set it first.

        Raises:
            ValueError: If a value is not finite or was recorded after `iteration`.
        """
        self._kinds = {name: state["kinds"][name] for name in state["values"]}
        self._histories = {}
        for name, values in state["values"].items():
            history = self._histories[name] = HistoryBuffer(_HISTORY_LENGTH)
            for value, iteration in zip(values, state["iterations"][name], strict=True):
                if not (math.isfinite(value) and 0 <= iteration <= self.iteration):
                    raise ValueError(
                        f"events: {name} must have finite values at iterations up to {self.iteration}, but has {value} "
                        f"at {iteration}"
                    )
                history.update(float(value), int(iteration))

    def _history(self, name: str) -> HistoryBuffer:
        if name not in self._histories:
            near = nearest_names(name, self._histories)
            raise KeyError(f"name must be a recorded scalar; {near}. Received: name={name!r}")
        return self._histories[name]


def _values_after(history: HistoryBuffer, iteration: int) -> list[tuple[float, float]]:
    """Return the values recorded after an iteration, and their iterations."""
    values = history.values()
    return values[bisect_right(values, iteration, key=lambda value: value[1]) :]
