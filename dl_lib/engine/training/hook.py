"""What a hook is: something that happens beside the training step, at set moments."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dl_lib.engine.training.trainer import Trainer

__all__ = ["Hook", "PeriodicHook", "is_due"]


def is_due(trainer: Trainer, period: int) -> bool:
    """Whether something that happens every so many iterations does so now, in `after_step`.

    Not after the last step: what belongs to the end of the training happens in `after_train`.

    Args:
        trainer: whose iteration counts.
        period: iterations; 0 is never.
    """
    return period > 0 and trainer.iteration % period == 0 and trainer.iteration < trainer.max_iter


class Hook:
    """Does nothing; subclasses override the moments they need. Hooks run in the order of the trainer's list.

    `trainer.iteration` counts the steps that are done: in `before_step` of the first step it is 0, in its
    `after_step` it is 1.
    """

    def before_train(self, trainer: Trainer) -> None:
        """Once, before the first step of this run."""

    def before_step(self, trainer: Trainer) -> None:
        """Before each step, and before its batch is fetched."""

    def after_step(self, trainer: Trainer) -> None:
        """After each step."""

    def after_train(self, trainer: Trainer) -> None:
        """Once, when all steps are done; not after an error or Ctrl-C."""

    def on_interrupt(self, trainer: Trainer) -> None:
        """After Ctrl-C, when no step is half done."""

    def close(self, trainer: Trainer) -> None:
        """Always, and last; other processes may be gone, so nothing here may wait for them."""

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs of this hook to go on as if it had not been stopped: tensors and plain values."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes over what `state_dict` of the stopped run gave; comes before `before_train`."""


class PeriodicHook(Hook, ABC):
    """Does the same thing every so many iterations and at the end, never twice in one iteration.

    Args:
        period: iterations between two times; 0 does it at the end only.
    """

    def __init__(self, *, period: int) -> None:
        self._period = period
        self._done_at: int | None = None

    @abstractmethod
    def run(self, trainer: Trainer) -> None:
        """What is repeated."""

    def after_step(self, trainer: Trainer) -> None:
        if is_due(trainer, self._period):
            self._run_once(trainer)

    def after_train(self, trainer: Trainer) -> None:
        self._run_once(trainer)  # not again where another hook has ended the training in this iteration

    def _run_once(self, trainer: Trainer) -> None:
        if self._done_at != trainer.iteration:
            self.run(trainer)
            self._done_at = trainer.iteration
