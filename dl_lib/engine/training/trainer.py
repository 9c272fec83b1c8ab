"""Iteration-based training loop with hooks."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from dl_lib.checkpoint.state_check import check_range
from dl_lib.engine.training.debug_files import ExecutedStep
from dl_lib.engine.training.hook import Hook
from dl_lib.engine.training.interrupt import InterruptGuard, TrainingInterrupted
from dl_lib.engine.training.non_finite import NonFiniteLossError, NonFinitePolicy, is_finite
from dl_lib.engine.training.precision import Precision
from dl_lib.engine.training.random_state import check_random_state, get_random_state, set_random_state
from dl_lib.engine.training.step_state import StateBeforeStep
from dl_lib.engine.training.train_step import Batch, GradientClip, TrainStep
from dl_lib.utils import comm
from dl_lib.utils.events import EventStorage
from dl_lib.utils.logger import FILE_ONLY

__all__ = ["NonFiniteLossError", "Trainer"]

_log = logging.getLogger(__name__)

_MAX_ITER_LIMIT = "SOLVER.LR_SCHEDULER.MAX_ITER; set it as in the run to resume, or higher"
_STOP = "stop"  # key in the averaged scalars: fraction of processes that received a stop signal


class Trainer:
    """Training loop from `start_iteration` to `max_iter` with hooks around each step.

    A step fetches one or several batches, sums the model's losses, computes and clips the gradients, and runs the
    optimizer. All scalars of the step are transferred from the device at once, before the optimizer runs: they are
    averaged over the processes, checked to be finite and recorded in `events`.

    Checkpoints are saved between two hooks, so the state lists the hooks that have run in the current iteration. On
    resume, the remaining hooks of that iteration run first; no hook is skipped or repeated.

    Args:
        model: Model as described in `TrainStep`.
        loader: Infinite iterable of batches.
        optimizer: Optimizer of the model's parameters.
        max_iter: Iterations of the whole training, including earlier runs.
        accumulation_steps: Batches whose gradients are accumulated per step.
        clip: Gradient clipping; None disables it.
        precision: Precision of the forward pass; None uses float32.
        non_finite: Policy for non-finite losses and gradients; None stops at the first one.
        hooks: Hooks, in the order in which they run.

    Attributes:
        iteration: Completed steps.
        start_iteration: Steps completed before this run.
        events: Scalars of this run: `total_loss`, each loss, the model's logged values (costs in GFLOPs: `expt_flops`
            becomes `expt_gflops`), `gradient_norm` (before clipping), `data_seconds`, and those recorded by hooks.
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
        self._hooks_done: list[str] = []  # in `after_step` of the current iteration
        self._random_states: list[dict[str, Any]] = []
        self._restored_random_state: dict[str, Any] | None = None

    @property
    def iteration(self) -> int:
        return self.events.iteration

    def train(self) -> None:
        """Run all remaining steps.

        Raises:
            NonFiniteLossError: If a loss or gradient is not finite and the policy is to stop.
            TrainingInterrupted: After a stop signal, once the hooks have saved.
        """
        interrupted = saved = False
        with self._guard:
            try:
                self._train()
            except KeyboardInterrupt:
                interrupted, saved = True, self._save_interrupted()
            except Exception:
                _log.exception("Stopped by an error at iteration %s", self._progress, extra=FILE_ONLY)
                self._close_hooks()
                raise
            closing_error = self._close_hooks()
            if saved:
                comm.synchronize()  # the first process to exit terminates the others, which may still be writing
        if interrupted:
            raise TrainingInterrupted(self._guard.signal_number)
        if closing_error is not None:
            raise closing_error

    def interruptible(self) -> AbstractContextManager[None]:
        """Context in which a signal may interrupt immediately instead of after the step.

        With several processes, signals still wait for the end of a step: all processes must stop together.
        """
        return self._guard.interruptible() if comm.get_world_size() == 1 else nullcontext()

    def stop_after_step(self) -> None:
        """End training after this step as if it were the last one; every process must call it."""
        self.max_iter = self.iteration

    def gather_state(self) -> None:
        """Gather the state of all processes for `state_dict`; every process must call it before one saves."""
        self._random_states = comm.all_gather(get_random_state())

    def state_dict(self) -> dict[str, Any]:
        """Return the trainer state to checkpoint, excluding model, optimizer and scheduler. Call `gather_state` first.

        Returns:
            Tensors and plain values.
        """
        return {
            "iteration": self.iteration,
            "random_states": self._random_states,
            "events": self.events.state_dict(),
            "hooks": {name: state for name, hook in self._named_hooks() if (state := hook.state_dict())},
            "hooks_done": list(self._hooks_done),
            "skipped_steps": self.non_finite.skipped,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load a state returned by `state_dict`.

        Raises:
            ValueError: If a value is out of range.
        """
        check_range(state["iteration"], name="the iteration", maximum=self.max_iter, limit=_MAX_ITER_LIMIT)
        check_range(state["skipped_steps"], name="skipped_steps", maximum=state["iteration"], limit="the iteration")
        if not all(isinstance(name, str) for name in state["hooks_done"]):
            raise ValueError(f"hooks_done must contain names, but is {state['hooks_done']!r:.80}")
        self.start_iteration = state["iteration"]
        self.events = EventStorage(iteration=self.start_iteration)
        self.events.load_state_dict(state["events"])
        for name, hook in self._named_hooks():
            if name in state["hooks"]:
                hook.load_state_dict(state["hooks"][name])
        self._hooks_done = list(state["hooks_done"])
        self.non_finite.skipped = state["skipped_steps"]
        random_states = state["random_states"]
        if len(random_states) == comm.get_world_size():
            self._restored_random_state = random_states[comm.get_rank()]
            check_random_state(random_states[comm.get_rank()])
        else:
            _log.warning(
                "World size changed from %d to %d since the checkpoint; random states are not restored",
                len(random_states),
                comm.get_world_size(),
            )

    @property
    def _progress(self) -> str:
        return f"{self.iteration}/{self.max_iter}"

    def _named_hooks(self) -> Iterator[tuple[str, Hook]]:
        """Yield hooks by class name; further hooks of a class get a numbered suffix."""
        counts: dict[str, int] = {}
        for hook in self.hooks:
            kind = type(hook).__name__
            counts[kind] = counts.get(kind, 0) + 1
            yield (kind if counts[kind] == 1 else f"{kind}_{counts[kind]}"), hook

    def _train(self) -> None:
        for hook in self.hooks:
            hook.before_train(self)
        if self._restored_random_state is not None:  # restored last, because setup may draw random numbers
            set_random_state(self._restored_random_state)
        if self._hooks_done:
            self._after_step()  # hooks that had not run when the checkpoint was saved
        if self.iteration < self.max_iter:
            self._run_steps()
        for hook in self.hooks:
            hook.after_train(self)

    def _run_steps(self) -> None:
        self.model.train()
        batches = iter(self.loader)
        before = StateBeforeStep(self.model)
        while self.iteration < self.max_iter:
            for hook in self.hooks:
                hook.before_step(self)
            self._run_step(batches, before)
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
        """Run `after_step` of the hooks that have not run in this iteration."""
        done = set(self._hooks_done)
        for name, hook in self._named_hooks():
            if name not in done:
                # Listed before it runs: a hook that saves a checkpoint must not save it again on resume.
                self._hooks_done.append(name)
                try:
                    hook.after_step(self)
                except KeyboardInterrupt:
                    self._hooks_done.remove(name)
                    raise

    def _run_step(self, batches: Iterator[Batch], before: StateBeforeStep) -> None:
        start_seconds = time.perf_counter()
        micro_batches = [self._fetch(batches) for _ in range(self.accumulation_steps)]
        data_seconds = time.perf_counter() - start_seconds
        self._in_step = True
        before.save()
        tensors = self._step.backward(micro_batches, step_rate=self.iteration / self.max_iter)
        scalars = self._to_host(tensors)
        self._stop_agreed = scalars.pop(_STOP, 0.0) > 0
        if is_finite(scalars, overflows=self._step.precision.may_overflow):
            self._step.apply()
        else:
            values = {name: float(value) for name, value in tensors.items()}
            precision = self._step.precision.state_dict()
            step = ExecutedStep(before, self.iteration, self.max_iter, micro_batches, values, precision)
            self.non_finite.handle(step, means=scalars)
            self._step.skip_step()
        self.events.iteration += 1
        self._in_step = False
        self.events.put({**scalars, "data_seconds": data_seconds})

    def _fetch(self, batches: Iterator[Batch]) -> Batch:
        try:
            with self.interruptible():
                return next(batches)
        except StopIteration:
            raise ValueError(
                "loader must be infinite, but it has no more batches. "
                f"Received: loader={type(self.loader).__name__}, iteration={self.iteration}, max_iter={self.max_iter}"
            ) from None

    def _to_host(self, tensors: Mapping[str, Tensor]) -> dict[str, float]:
        """Return scalars averaged over the processes, transferred to the host at once."""
        device = next(iter(tensors.values())).device
        scalars = dict(tensors)
        if comm.get_world_size() > 1:
            requested = float(self._guard.requested)
            scalars[_STOP] = torch.full((), requested, dtype=torch.float64, device=device)
        values = [value.to(device, torch.float64) for value in scalars.values()]
        return dict(zip(scalars, comm.average(torch.stack(values)).tolist(), strict=True))

    def _save_interrupted(self) -> bool:
        """Run `on_interrupt` of all hooks; return False if a step is incomplete or a second signal arrives."""
        try:
            if not self._in_step and not self._guard.forced:
                for hook in self.hooks:
                    hook.on_interrupt(self)
                return True
        except KeyboardInterrupt:
            pass
        _log.warning("Exiting without saving at iteration %s", self._progress)
        return False

    def _close_hooks(self) -> Exception | None:
        """Close all hooks; return the first error instead of raising it, which could hide an earlier error."""
        errors: list[Exception] = []
        for hook in self.hooks:
            try:
                hook.close(self)
            except Exception as error:
                _log.exception("Failed to close %s", type(hook).__name__, extra=FILE_ONLY)
                errors.append(error)
        return errors[0] if errors else None
