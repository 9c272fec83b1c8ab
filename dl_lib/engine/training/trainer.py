"""The training loop: one step after the other, and the moments around them."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from dl_lib.engine.training.hook import Hook
from dl_lib.engine.training.interrupt import InterruptGuard, TrainingInterrupted
from dl_lib.engine.training.non_finite import NonFiniteLossError, NonFinitePolicy
from dl_lib.engine.training.precision import Precision
from dl_lib.engine.training.random_state import get_random_state, set_random_state
from dl_lib.engine.training.train_step import Batch, GradientClip, TrainStep
from dl_lib.utils import comm
from dl_lib.utils.events import EventStorage
from dl_lib.utils.logger import FILE_ONLY

__all__ = ["NonFiniteLossError", "Trainer"]

_log = logging.getLogger(__name__)

_STOP = "stop"  # in the scalars that are averaged over the processes: how many of them want to stop


class Trainer:
    """Steps from `start_iteration` to `max_iter`, with hooks around each of them.

    One step: fetch a batch (or several), run the model on it, sum the losses, go backward, clip, and let the optimizer
    step. Once in each step, before the optimizer, all scalars come from the device together: they are checked, averaged
    over the processes and put into the events.

    Its state is that of a moment between two hooks: a run that goes on from a checkpoint first calls the hooks that had
    not had their turn in this iteration when it was saved, so that nothing is left out or done twice.

    Args:
        model: see `TrainStep`.
        loader: endless batches.
        optimizer: of the model's parameters.
        max_iter: steps of the whole training, those of earlier runs included.
        accumulation_steps: batches whose gradients make one step.
        clip: of the gradients.
        precision: of the forward pass; None for that of the parameters.
        non_finite: what a loss or gradient that is not finite does to the run.
        hooks: in the order in which they run.

    Attributes:
        iteration: steps done.
        start_iteration: steps that were done before this run.
        events: scalars of this run: `total_loss`, each loss, what the model has logged (costs in GFLOPs: `expt_flops`
            becomes `expt_gflops`), `gradient_norm` (before clipping), `data_seconds`, and what hooks put there.
    """

    def __init__(
        self,
        model: nn.Module,
        loader: Iterable[Batch],
        optimizer: torch.optim.Optimizer,
        *,
        max_iter: int,
        accumulation_steps: int = 1,
        clip: GradientClip | None = None,
        precision: Precision | None = None,
        non_finite: NonFinitePolicy | None = None,
        hooks: Iterable[Hook] = (),
    ) -> None:
        self.model = model
        self.loader = loader
        self.optimizer = optimizer
        self.max_iter = max_iter
        self.accumulation_steps = accumulation_steps
        self.hooks = list(hooks)
        self.start_iteration = 0
        self.events = EventStorage()
        self.non_finite = non_finite or NonFinitePolicy()
        self._step = TrainStep(model, optimizer, clip=clip, precision=precision)
        self._guard = InterruptGuard()
        self._stop_agreed = False
        self._in_step = False
        self._hooks_done: list[str] = []  # in `after_step` of the present iteration
        self._random_states: list[dict[str, Any]] = []
        self._random_state_before: dict[str, Any] | None = None

    @property
    def iteration(self) -> int:
        return self.events.iteration

    def train(self) -> None:
        """Runs all steps that are left.

        Raises:
            NonFiniteLossError: if a loss or gradient is not finite, and the policy is to stop.
            TrainingInterrupted: after a signal, when hooks have saved; uncaught, it ends the process with its status.
        """
        interrupted = saved = False
        with self._guard:
            try:
                self._train()
            except KeyboardInterrupt:
                interrupted, saved = True, self._save_interrupted()
            except Exception:
                done = f"after {self.iteration} of {self.max_iter} iterations"
                _log.exception("stopped by an error %s", done, extra=FILE_ONLY)
                self._close_hooks()
                raise
            closing_error = self._close_hooks()
            if saved:
                comm.synchronize()  # a process that ends has the others ended, who may still be writing
        if interrupted:
            raise TrainingInterrupted(self._guard.signal_number)
        if closing_error is not None:
            raise closing_error

    def interruptible(self) -> AbstractContextManager[None]:
        """For stretches beside the steps that a signal may cut short.

        With several processes it may not: one that leaves would let the others wait, so all stop after a step.
        """
        return self._guard.interruptible() if comm.get_world_size() == 1 else nullcontext()

    def stop_after_step(self) -> None:
        """Ends the training after this step, as if it had been the last one; every process has to call it."""
        self.max_iter = self.iteration

    def gather_state(self) -> None:
        """Makes `state_dict` that of this moment on all processes; every process has to call it before one saves."""
        self._random_states = comm.all_gather(get_random_state())

    def state_dict(self) -> dict[str, Any]:
        """What is needed to go on, beside the states of model, optimizer and schedule; after `gather_state`."""
        return {
            "iteration": self.iteration,
            "random_states": self._random_states,
            "events": self.events.state_dict(),
            "hooks": {name: state for name, hook in self._named_hooks() if (state := hook.state_dict())},
            "hooks_done": list(self._hooks_done),
            "skipped_steps": self.non_finite.skipped,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on where a saved run was.

        Args:
            state: from `state_dict`.
        """
        self.start_iteration = int(state["iteration"])
        self.events = EventStorage(iteration=self.start_iteration)
        self.events.load_state_dict(state["events"])
        for name, hook in self._named_hooks():
            hook.load_state_dict(state["hooks"].get(name, {}))
        self._hooks_done = list(state["hooks_done"])
        self.non_finite.skipped = state["skipped_steps"]
        random_states = state["random_states"]
        if len(random_states) == comm.get_world_size():
            self._random_state_before = random_states[comm.get_rank()]
        else:
            _log.warning(
                "the run was saved by %d processes and goes on with %d: random numbers begin anew",
                len(random_states),
                comm.get_world_size(),
            )

    def _named_hooks(self) -> Iterator[tuple[str, Hook]]:
        """Hooks by the names of their classes, numbered where there are several of one."""
        seen: dict[str, int] = {}
        for hook in self.hooks:
            kind = type(hook).__name__
            seen[kind] = seen.get(kind, 0) + 1
            yield (kind if seen[kind] == 1 else f"{kind}_{seen[kind]}"), hook

    def _train(self) -> None:
        for hook in self.hooks:
            hook.before_train(self)
        if self._random_state_before is not None:  # now, because what was set up meanwhile may have drawn numbers
            set_random_state(self._random_state_before)
        if self._hooks_done:
            self._after_step()  # what is left of it from before
        if self.iteration < self.max_iter:
            self._step_until_done()
        for hook in self.hooks:
            hook.after_train(self)

    def _step_until_done(self) -> None:
        self.model.train()
        batches = iter(self.loader)
        while self.iteration < self.max_iter:
            for hook in self.hooks:
                hook.before_step(self)
            self._one_step(batches)
            self._hooks_done = []
            self._after_step()
            if self._stop_agreed:
                self._guard.signal_number = max(
                    comm.all_gather(self._guard.signal_number if self._guard.requested else 0)
                )
                raise KeyboardInterrupt
            if self._guard.requested and comm.get_world_size() == 1:
                raise KeyboardInterrupt

    def _after_step(self) -> None:
        """Calls the hooks that have not had their turn in this iteration."""
        done = set(self._hooks_done)
        for name, hook in self._named_hooks():
            if name not in done:
                # One that saves does so inside of its turn, and is not to save again when the run goes on.
                self._hooks_done.append(name)
                try:
                    hook.after_step(self)
                except KeyboardInterrupt:
                    self._hooks_done.remove(name)
                    raise

    def _one_step(self, batches: Iterator[Batch]) -> None:
        start_seconds = time.perf_counter()
        parts = [self._fetch(batches) for _ in range(self.accumulation_steps)]
        data_seconds = time.perf_counter() - start_seconds
        self._in_step = True
        self.non_finite.before_step(self.model)
        tensors = self._step.backward(parts, step_rate=self.iteration / self.max_iter)
        scalars = self._fetch_scalars(tensors)
        self._stop_agreed = scalars.pop(_STOP, 0.0) > 0
        accepted = self.non_finite.accepts(
            scalars, iteration=self.iteration, max_iter=self.max_iter, overflows=self._step.precision.may_overflow
        )
        if accepted:
            self._step.apply()
        else:
            self._step.skip_step()
        self.events.iteration += 1
        self._in_step = False
        finite = {name: value for name, value in scalars.items() if math.isfinite(value)}
        self.events.put({**finite, "data_seconds": data_seconds})

    def _fetch(self, batches: Iterator[Batch]) -> Batch:
        try:
            with self.interruptible():
                return next(batches)
        except StopIteration:
            raise ValueError(
                "training needs a loader that never ends, and this one has no more batches. "
                f"Received: loader={type(self.loader).__name__}, iteration={self.iteration}, max_iter={self.max_iter}"
            ) from None

    def _fetch_scalars(self, tensors: Mapping[str, Tensor]) -> dict[str, float]:
        """Brings scalars to the host, averaged over the processes, with one transfer."""
        device = next(iter(tensors.values())).device
        scalars = dict(tensors)
        if comm.get_world_size() > 1:
            requested = float(self._guard.requested)
            scalars[_STOP] = torch.full((), requested, dtype=torch.float64, device=device)
        values = [value.to(device, torch.float64) for value in scalars.values()]
        return dict(zip(scalars, comm.average(torch.stack(values)).tolist(), strict=True))

    def _save_interrupted(self) -> bool:
        """Lets the hooks save, unless a step is half done or a second Ctrl-C says not to; whether they all could."""
        try:
            if not self._in_step and not self._guard.forced:
                for hook in self.hooks:
                    hook.on_interrupt(self)
                return True
        except KeyboardInterrupt:  # the second Ctrl-C
            pass
        _log.warning("ended without saving, after %d of %d iterations", self.iteration, self.max_iter)
        return False

    def _close_hooks(self) -> Exception | None:
        """Closes every hook, whatever the others do; the first error is returned, so that it can hide no other."""
        errors: list[Exception] = []
        for hook in self.hooks:
            try:
                hook.close(self)
            except Exception as error:
                _log.exception("%s could not be closed", type(hook).__name__)
                errors.append(error)
        return errors[0] if errors else None
