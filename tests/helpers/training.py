"""Least-squares model with a closed-form solution, deterministic batches, and trainers of it."""

import logging
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import torch
from torch import nn

from dl_lib.checkpoint import Checkpointer
from dl_lib.engine.hooks import Hook, LRScheduler, PeriodicCheckpointer
from dl_lib.engine.trackers import GuardedTracker, TensorBoardTracker
from dl_lib.engine.training.train_step import GradientClip
from dl_lib.engine.training.trainer import Trainer
from dl_lib.modeling import TargetBudget
from dl_lib.solver import scheduled_factor

DIMENSIONS = 3


class LeastSquares(nn.Module):
    """Mean squared error of a linear map with an offset; same interface as the routed networks."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(DIMENSIONS, dtype=torch.float64))
        self.offset = nn.Parameter(torch.zeros((), dtype=torch.float64))
        self.step_rates = []

    def forward(self, batched_inputs, step_rate=0.0):
        self.step_rates.append(step_rate)
        x = torch.stack([sample["x"] for sample in batched_inputs])
        y = torch.stack([sample["y"] for sample in batched_inputs])
        error = x @ self.weight + self.offset - y
        return {"loss_square": error.square().mean()}, {"expt_flops": 2000.0 + error.detach().mean() * 0}


class WithBudget(LeastSquares):
    """Least squares with a cost from 0 to 1 that rises with the offset, and a budget with a target for it."""

    def __init__(self, *, target=0.3, start_rate=0.0):
        super().__init__()
        self.budget = TargetBudget(
            target=target, unit="ratio", lattice_cost=1.0, reachable=(0.0, 1.0), start_rate=start_rate, warm_up=False
        )

    def forward(self, batched_inputs, step_rate=0.0):
        losses, logged = super().forward(batched_inputs, step_rate)
        cost = torch.stack([torch.sigmoid(self.offset + sample["x"].sum()) for sample in batched_inputs]).mean()
        if self.budget.is_active(step_rate):
            losses["loss_budget"] = self.budget.weight * cost
        return losses, {**logged, "budget_cost": cost.detach()}


def make_batch(number, *, size=4):
    generator = torch.Generator().manual_seed(number)
    x = torch.randn(size, DIMENSIONS, generator=generator, dtype=torch.float64)
    y = x.sum(1) + 0.5 + 0.1 * torch.randn(size, generator=generator, dtype=torch.float64)
    return [{"x": row, "y": value} for row, value in zip(x, y, strict=True)]


def batches_from(start):
    """Yield batches endlessly, beginning with a batch number."""
    while True:
        yield make_batch(start)
        start += 1


def repeat_batch(batch):
    while True:
        yield batch


class At(Hook):
    """Hook that calls a function after a given step."""

    def __init__(self, iteration, action):
        self.iteration = iteration
        self.action = action

    def after_step(self, trainer):
        if trainer.iteration == self.iteration:
            self.action(trainer)


def plain_trainer(*, max_iter, loader=None, lr=0.1, model=None, hooks=(), **settings):
    model = LeastSquares() if model is None else model
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    return Trainer(
        model, batches_from(0) if loader is None else loader, optimizer, max_iter=max_iter, hooks=hooks, **settings
    )


def resumable_trainer(folder, *, max_iter, hooks=(), period=0):
    """Trainer with momentum, warmup and polynomial decay; resumes from the last checkpoint in the folder, if any."""
    model = LeastSquares()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-3)

    def factor(iteration):
        return scheduled_factor(
            iteration, shape=lambda progress: (1 - progress) ** 0.9, max_iter=max_iter, warmup_iters=4, warmup_start=0.1
        )

    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
    trainer = Trainer(model, (), optimizer, max_iter=max_iter, clip=GradientClip(1.0))
    checkpointer = Checkpointer(model, str(folder), trainer=trainer, optimizer=optimizer, scheduler=scheduler)
    trainer.hooks = [LRScheduler(scheduler), PeriodicCheckpointer(checkpointer, period=period), *hooks]
    checkpointer.resume_or_load("", resume=True)
    trainer.loader = batches_from(trainer.iteration)
    return trainer


def tensorboard_writer(folder):
    return GuardedTracker(partial(TensorBoardTracker, folder), name="tensorboard", folder=Path(folder))


@contextmanager
def captured_log(module):
    """Collect the messages of the logger of a module of the engine."""
    messages = []
    handler = logging.Handler()
    handler.emit = lambda record: messages.append(record.getMessage())
    logger = logging.getLogger(f"dl_lib.engine.{module}")
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield messages
    logger.removeHandler(handler)
    logger.setLevel(level)


@contextmanager
def restore_logging():
    """Undo changes of `setup_logger` to the loggers."""
    loggers = [logging.getLogger(name) for name in ("dl_lib", "fvcore")]
    before = [(logger, logger.handlers[:], logger.level, logger.propagate) for logger in loggers]
    try:
        yield
    finally:
        for logger, handlers, level, propagate in before:
            for handler in set(logger.handlers) - set(handlers):
                handler.close()
            logger.handlers[:] = handlers
            logger.setLevel(level)
            logger.propagate = propagate
