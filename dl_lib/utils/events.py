"""What a run knows about itself, as scalars over iterations.

The storage is handed to those who write into it or read from it; there is no current one to be looked up.
Iteration n means: n optimizer steps are done. The first step's losses therefore stand at iteration 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fvcore.common.history_buffer import HistoryBuffer

from dl_lib.utils.names import nearest_names

__all__ = ["EventStorage"]

_HISTORY_LENGTH = 1000  # values kept of each scalar: far more than any window that is looked at
_SAVED_LENGTH = 100  # of these, in a checkpoint


class EventStorage:
    """Scalars by name, each with its history.

    Args:
        iteration: optimizer steps done before this run began.

    Attributes:
        iteration: optimizer steps done; whoever runs the loop moves it on.
    """

    def __init__(self, *, iteration: int = 0) -> None:
        self.iteration = iteration
        self._histories: dict[str, HistoryBuffer] = {}
        self._rare: set[str] = set()

    def put(self, scalars: Mapping[str, float], *, is_eval: bool = False) -> None:
        """Takes down values of the present iteration.

        Args:
            scalars: by name; a unit belongs in the name ("data_seconds").
            is_eval: each of these counts, as of an evaluation; of the others, writers may take the newest only.
        """
        self._rare.update(scalars if is_eval else ())
        for name, value in scalars.items():
            self._histories.setdefault(name, HistoryBuffer(_HISTORY_LENGTH)).update(float(value), self.iteration)

    def names(self) -> tuple[str, ...]:
        """Names of all scalars, in the order in which they first came."""
        return tuple(self._histories)

    def current_eval_metrics(self) -> dict[str, float]:
        """The rare scalars that came in at the present iteration, such as an evaluation's."""
        newest = {name: history.values()[-1] for name, history in self._histories.items() if name in self._rare}
        return {name: value for name, (value, at) in newest.items() if at == self.iteration}

    def latest(self, name: str) -> float:
        """The newest value.

        Raises:
            KeyError: for a name that nothing was taken down under.
        """
        return self._history(name).latest()

    def median(self, name: str, *, window: int) -> float:
        """Median of the newest `window` values.

        Raises:
            KeyError: for a name that nothing was taken down under.
        """
        return float(self._history(name).median(window))

    def since(self, iteration: int) -> dict[int, dict[str, float]]:
        """What came in after an iteration: of each scalar the newest value, of a rare one all of them.

        Returns:
            Values by name, under the iteration that they are from, in the order of the iterations.
        """
        found: dict[int, dict[str, float]] = {}
        for name, history in self._histories.items():
            for value, at in history.values() if name in self._rare else history.values()[-1:]:
                if at > iteration:
                    found.setdefault(int(at), {})[name] = value
        return dict(sorted(found.items()))

    def state_dict(self) -> dict[str, Any]:
        """The newest values, so that a resumed run writes down what had not been, and goes on with the same medians."""
        return {
            "rare": sorted(self._rare),
            "histories": {name: history.values()[-_SAVED_LENGTH:] for name, history in self._histories.items()},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes over what `state_dict` gave; the iteration stays as it is."""
        self._rare = set(state["rare"])
        self._histories = {}
        for name, values in state["histories"].items():
            self._histories[name] = HistoryBuffer(_HISTORY_LENGTH)
            for value, iteration in values:
                self._histories[name].update(value, iteration)

    def _history(self, name: str) -> HistoryBuffer:
        if name not in self._histories:
            near = nearest_names(name, self._histories)
            raise KeyError(f"no scalar of this name was taken down; {near}. Received: name={name!r}")
        return self._histories[name]
