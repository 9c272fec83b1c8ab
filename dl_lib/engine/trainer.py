"""The training loop: one step, and the moments around it."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from dl_lib.engine.hooks.base import Hook
from dl_lib.engine.interrupt import InterruptGuard, TrainingInterrupted
from dl_lib.utils import comm
from dl_lib.utils.events import EventStorage
from dl_lib.utils.logger import FILE_ONLY

__all__ = ["NonFiniteLossError", "Trainer"]

_log = logging.getLogger(__name__)

_STOP = "stop"  # in the scalars that are averaged over the processes: how many of them want to stop


class NonFiniteLossError(ValueError):
    """A loss or gradient is infinite or not a number; the weights are those from before the step."""


class Trainer:
    """Steps from `start_iteration` to `max_iter`, with hooks around each of them.

    One step: fetch a batch, run the model on it, sum the losses, go backward, clip, and let the optimizer step.
    Once in each step, before the optimizer, all scalars come from the device together: they are checked, averaged
    over the processes and put into the events.

    Args:
        model: called as `model(batch, step_rate=...)`; returns losses (0-d, summed up) and costs (MFLOPs, 0-d).
        loader: endless batches.
        optimizer: of the model's parameters.
        max_iter: steps of the whole training, those of earlier runs included.
        max_gradient_norm: gradients are scaled down so that the L2 norm of all of them together is at most this;
            0 leaves them as they are.
        hooks: in the order in which they run.

    Attributes:
        iteration: steps done.
        start_iteration: steps that were done before this run.
        events: scalars of this run: `total_loss`, each loss, each cost (in GFLOPs: `expt_flops` becomes
            `expt_gflops`), `gradient_norm` (before clipping), `data_seconds`, and what hooks put there.
    """

    def __init__(
        self,
        model: nn.Module,
        loader: Iterable[Sequence[Any]],
        optimizer: torch.optim.Optimizer,
        *,
        max_iter: int,
        max_gradient_norm: float = 0.0,
        hooks: Iterable[Hook] = (),
    ) -> None:
        self.model = model
        self.loader = loader
        self.optimizer = optimizer
        self.max_iter = max_iter
        self.max_gradient_norm = max_gradient_norm
        self.hooks = list(hooks)
        self.start_iteration = 0
        self.events = EventStorage()
        self._guard = InterruptGuard()
        self._stop_agreed = False
        self._in_step = False
        self._parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]

    @property
    def iteration(self) -> int:
        return self.events.iteration

    def train(self) -> None:
        """Runs all steps that are left.

        Raises:
            NonFiniteLossError: if a loss or gradient is not finite.
            TrainingInterrupted: after Ctrl-C, when hooks have saved; uncaught, it ends the process with status 130.
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
            raise TrainingInterrupted
        if closing_error is not None:
            raise closing_error

    def interruptible(self) -> AbstractContextManager[None]:
        """For stretches beside the steps that Ctrl-C may cut short.

        With several processes it may not: one that leaves would let the others wait, so all stop after a step.
        """
        return self._guard.interruptible() if comm.get_world_size() == 1 else nullcontext()

    def state_dict(self) -> dict[str, Any]:
        """What is needed to go on, beside the states of model, optimizer and schedule."""
        return {"iteration": self.iteration}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on where a saved run was.

        Args:
            state: from `state_dict`.
        """
        self.start_iteration = int(state["iteration"])
        self.events = EventStorage(iteration=self.start_iteration)

    def _train(self) -> None:
        for hook in self.hooks:
            hook.before_train(self)
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
            self._step(batches)
            for hook in self.hooks:
                hook.after_step(self)
            if self._stop_agreed or (self._guard.requested and comm.get_world_size() == 1):
                raise KeyboardInterrupt

    def _step(self, batches: Iterator[Sequence[Any]]) -> None:
        start_seconds = time.perf_counter()
        batch = self._fetch(batches)
        data_seconds = time.perf_counter() - start_seconds
        self._in_step = True
        scalars = self._forward_backward(batch)
        _check_finite(scalars, iteration=self.iteration, max_iter=self.max_iter)
        self.optimizer.step()
        self.events.iteration += 1
        self._in_step = False
        self._stop_agreed = scalars.pop(_STOP, 0.0) > 0
        self.events.put({**scalars, "data_seconds": data_seconds})

    def _fetch(self, batches: Iterator[Sequence[Any]]) -> Sequence[Any]:
        try:
            with self.interruptible():
                return next(batches)
        except StopIteration:
            raise ValueError(
                "training needs a loader that never ends, and this one has no more batches. "
                f"Received: loader={type(self.loader).__name__}, iteration={self.iteration}, max_iter={self.max_iter}"
            ) from None

    def _forward_backward(self, batch: Sequence[Any]) -> dict[str, float]:
        """Fills the gradients, clips them, and returns the step's scalars, averaged over the processes."""
        self.optimizer.zero_grad(set_to_none=True)
        losses, costs_mflops = self.model(batch, step_rate=self.iteration / self.max_iter)
        total_loss = torch.stack(list(losses.values())).sum()
        total_loss.backward()
        # An infinite limit scales nothing, and the norm is worth knowing all the same.
        gradient_norm = nn.utils.clip_grad_norm_(self._parameters, self.max_gradient_norm or math.inf)
        costs_gflops = {name.replace("flops", "gflops"): value / 1000 for name, value in costs_mflops.items()}
        scalars = {"total_loss": total_loss, **losses, **costs_gflops, "gradient_norm": gradient_norm}
        if comm.get_world_size() > 1:
            scalars[_STOP] = float(self._guard.requested)
        return _fetch_scalars(scalars, device=total_loss.device)

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


def _fetch_scalars(scalars: Mapping[str, Tensor | float], *, device: torch.device) -> dict[str, float]:
    """Brings scalars to the host, averaged over the processes, with one transfer."""
    values = [torch.as_tensor(value).detach().to(device, torch.float64) for value in scalars.values()]
    return dict(zip(scalars, comm.average(torch.stack(values)).tolist(), strict=True))


def _check_finite(scalars: Mapping[str, float], *, iteration: int, max_iter: int) -> None:
    """Refuses a step with a loss, a cost or a gradient that is not finite.

    The means over the processes are looked at, so that they all stop together.
    """
    if all(math.isfinite(value) for value in scalars.values()):
        return
    terms = ", ".join(f"{name}={value:.6g}" for name, value in scalars.items() if name != _STOP)
    raise NonFiniteLossError(
        f"losses and gradients have to be finite, and are not at iteration {iteration} of {max_iter} (counted from 0); "
        "the weights are those from before it. A lower SOLVER.OPTIMIZER.BASE_LR, more SOLVER.LR_SCHEDULER.WARMUP_ITERS "
        f"or a smaller SOLVER.GRAD_CLIP may help. Received: {terms}"
    )
