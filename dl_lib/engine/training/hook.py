"""Base classes of training hooks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from fvcore.common.registry import Registry

if TYPE_CHECKING:
    from dl_lib.engine.training.trainer import Trainer

__all__ = ["HOOK_REGISTRY", "Hook", "PeriodicHook", "is_due"]

HOOK_REGISTRY = Registry("HOOK")
HOOK_REGISTRY.__doc__ = """Hooks of an experiment, the choices of `EXTRA_HOOKS`: `Hook`s, built as `make(cfg)`.

They run in every process after the evaluation, whose scores are in `trainer.events`, and before the writers, which
write what they record there. A checkpoint contains their state on the main process, under the name of their class.
"""


def is_due(trainer: Trainer, period: int) -> bool:
    """Return whether a periodic action is due in `after_step`.

    After the last step it returns False, because `after_train` follows. A period of 0 is never due.
    """
    return period > 0 and trainer.iteration % period == 0 and trainer.iteration < trainer.max_iter


class Hook:
    """Base class of hooks; every method does nothing by default. Hooks run in the order of `trainer.hooks`.

    `trainer.iteration` counts completed steps: it is 0 in `before_step` of the first step and 1 in its `after_step`.
    """

    def before_train(self, trainer: Trainer) -> None:
        """Run once, before the first step of this run."""

    def before_step(self, trainer: Trainer) -> None:
        """Run before each step, before its batch is fetched."""

    def after_step(self, trainer: Trainer) -> None:
        """Run after each step."""

    def after_train(self, trainer: Trainer) -> None:
        """Run once after the last step; skipped after an error or interrupt."""

    def on_interrupt(self, trainer: Trainer) -> None:
        """Run after an interrupt, between two steps."""

    def close(self, trainer: Trainer) -> None:
        """Release resources; always called last. Must not use collectives: other processes may have exited."""

    def state_dict(self) -> dict[str, Any]:
        """Return the state needed to resume exactly: tensors and plain values."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load a state returned by `state_dict`; called before `before_train`, if the checkpoint has such a state."""


class PeriodicHook(Hook, ABC):
    """Base class of hooks that run periodically and at the end of training, once per iteration at most.

    Args:
        period: Iterations between two runs; 0 runs only at the end.
    """

    def __init__(self, *, period: int) -> None:
        self._period = period
        self._last_iteration: int | None = None

    @abstractmethod
    def run(self, trainer: Trainer) -> None:
        """Perform the periodic action."""

    def after_step(self, trainer: Trainer) -> None:
        if is_due(trainer, self._period):
            self._run_once(trainer)

    def after_train(self, trainer: Trainer) -> None:
        self._run_once(trainer)

    def _run_once(self, trainer: Trainer) -> None:
        # `after_step` and `after_train` share an iteration if another hook ended training in a due iteration.
        if self._last_iteration != trainer.iteration:
            self.run(trainer)
            self._last_iteration = trainer.iteration
