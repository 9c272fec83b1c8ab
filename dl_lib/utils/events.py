"""Storage of the scalars of a run, by name and iteration.

The storage is passed explicitly to its users; there is no global storage. Iteration n means that n optimizer steps are
done, so the losses of the first step are recorded at iteration 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fvcore.common.history_buffer import HistoryBuffer

from dl_lib.utils.names import nearest_names

__all__ = ["EventStorage"]

_HISTORY_LENGTH = 1000  # values kept per scalar; far more than any median window
_SAVED_LENGTH = 100  # values per scalar in a checkpoint


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
        self._eval_names: set[str] = set()

    def put(self, scalars: Mapping[str, float], *, is_eval: bool = False) -> None:
        """Record scalars at the current iteration.

        Args:
            scalars: Values by name; a name includes its unit, such as `data_seconds`.
            is_eval: Whether these are evaluation metrics. Writers write every value of an evaluation metric, but only
                the latest value of other scalars.
        """
        self._eval_names.update(scalars if is_eval else ())
        for name, value in scalars.items():
            self._histories.setdefault(name, HistoryBuffer(_HISTORY_LENGTH)).update(float(value), self.iteration)

    def names(self) -> tuple[str, ...]:
        """Return the names of all scalars in the order of their first values."""
        return tuple(self._histories)

    def current_eval_metrics(self) -> dict[str, float]:
        """Return the evaluation metrics recorded at the current iteration."""
        latest = {name: history.values()[-1] for name, history in self._histories.items() if name in self._eval_names}
        return {name: value for name, (value, iteration) in latest.items() if iteration == self.iteration}

    def latest(self, name: str) -> float:
        """Return the latest value of a scalar; raise KeyError if there is none of this name."""
        return self._history(name).latest()

    def median(self, name: str, *, window: int) -> float:
        """Return the median of the latest `window` values of a scalar; raise KeyError if there is none."""
        return float(self._history(name).median(window))

    def since(self, iteration: int) -> dict[int, dict[str, float]]:
        """Return the scalars recorded after an iteration: all values of evaluation metrics, else the latest value.

        Returns:
            Values by name, grouped by their iteration in ascending order.
        """
        scalars: dict[int, dict[str, float]] = {}
        for name, history in self._histories.items():
            for value, recorded_at in history.values() if name in self._eval_names else history.values()[-1:]:
                if recorded_at > iteration:
                    scalars.setdefault(int(recorded_at), {})[name] = value
        return dict(sorted(scalars.items()))

    def state_dict(self) -> dict[str, Any]:
        """Return the latest values, so that a resumed run writes those not yet written and has the same medians."""
        return {
            "eval_names": sorted(self._eval_names),
            "histories": {name: history.values()[-_SAVED_LENGTH:] for name, history in self._histories.items()},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load a state returned by `state_dict`; `iteration` is unchanged."""
        self._eval_names = set(state["eval_names"])
        self._histories = {}
        for name, values in state["histories"].items():
            self._histories[name] = HistoryBuffer(_HISTORY_LENGTH)
            for value, iteration in values:
                self._histories[name].update(value, iteration)

    def _history(self, name: str) -> HistoryBuffer:
        if name not in self._histories:
            near = nearest_names(name, self._histories)
            raise KeyError(f"name must be a recorded scalar; {near}. Received: name={name!r}")
        return self._histories[name]
