"""What a run knows about itself, as scalars over iterations.

The storage is handed to those who write into it or read from it; there is no current one to be looked up.
Iteration n means: n optimizer steps are done. The first step's losses therefore stand at iteration 1.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping

from fvcore.common.history_buffer import HistoryBuffer

__all__ = ["EventStorage"]

_HISTORY_LENGTH = 1000  # values kept of each scalar: far more than any window that is looked at


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

    def put(self, scalars: Mapping[str, float]) -> None:
        """Takes down values of the present iteration.

        Args:
            scalars: by name; a unit belongs in the name ("data_seconds").
        """
        for name, value in scalars.items():
            self._histories.setdefault(name, HistoryBuffer(_HISTORY_LENGTH)).update(float(value), self.iteration)

    def names(self) -> tuple[str, ...]:
        """Names of all scalars, in the order in which they first came."""
        return tuple(self._histories)

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

    def since(self, iteration: int) -> dict[str, float]:
        """The newest value of each scalar that has one from after an iteration."""
        newest = {name: history.values()[-1] for name, history in self._histories.items()}
        return {name: value for name, (value, at) in newest.items() if at > iteration}

    def _history(self, name: str) -> HistoryBuffer:
        if name not in self._histories:
            near = difflib.get_close_matches(name, self._histories, n=3) or sorted(self._histories)
            raise KeyError(
                f"no scalar of this name was taken down; nearest: {', '.join(near) or 'none'}. Received: name={name!r}"
            )
        return self._histories[name]
