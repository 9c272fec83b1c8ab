"""Checks of `SOLVER.OPTIMIZER`, `SOLVER.LR_SCHEDULER` and `SOLVER.EARLY_STOPPING`."""

from __future__ import annotations

from itertools import pairwise

from dl_lib.solver.build import LR_SCHEDULERS, OPTIMIZERS
from dl_lib.solver.group_rules import group_rule_problems
from dl_lib.validation.report import Interval, Report

__all__ = ["SCORE_MODES", "check_solver"]

SCORE_MODES = ("max", "min")  # whether a score is better higher or lower
RANGES = {
    "SOLVER.OPTIMIZER.BASE_LR": Interval(0, open_low=True),
    "SOLVER.OPTIMIZER.MOMENTUM": Interval(0, 1, open_high=True),
    "SOLVER.OPTIMIZER.EPS": Interval(0, open_low=True),
    "SOLVER.OPTIMIZER.WEIGHT_DECAY": Interval(0),
    "SOLVER.OPTIMIZER.WEIGHT_DECAY_NORM": Interval(0),
    "SOLVER.OPTIMIZER.GATE_LR_MULTI": Interval(0),
    "SOLVER.LR_SCHEDULER.MAX_ITER": Interval(1),
    "SOLVER.LR_SCHEDULER.POLY_POWER": Interval(0),
    "SOLVER.LR_SCHEDULER.GAMMA": Interval(0, 1, open_low=True),
    "SOLVER.LR_SCHEDULER.END_FACTOR": Interval(0, 1),
    "SOLVER.LR_SCHEDULER.ONE_CYCLE.PEAK_AT": Interval(0, 1, open_low=True, open_high=True),
    "SOLVER.LR_SCHEDULER.ONE_CYCLE.START_FACTOR": Interval(0, 1),
    "SOLVER.LR_SCHEDULER.WARMUP_ITERS": Interval(0),
    "SOLVER.LR_SCHEDULER.WARMUP_FACTOR": Interval(0, 1),
    "SOLVER.EARLY_STOPPING.PATIENCE": Interval(1),
    "SOLVER.EARLY_STOPPING.MIN_DELTA": Interval(0),
}


def check_solver(report: Report) -> None:
    """Note everything that is wrong with the optimizer, its learning rates and when it stops."""
    for key, interval in RANGES.items():
        report.within(key, interval)
    report.one_of("SOLVER.OPTIMIZER.NAME", OPTIMIZERS, what="optimizer")
    report.one_of("SOLVER.LR_SCHEDULER.NAME", LR_SCHEDULERS, what="learning rate schedule")
    report.one_of("SOLVER.EARLY_STOPPING.MODE", SCORE_MODES, what="way to compare scores")
    _check_optimizer(report)
    _check_steps(report)
    _check_one_cycle(report)
    if report.trains:
        _check_early_stopping(report)


def _check_optimizer(report: Report) -> None:
    report.problems += group_rule_problems(report.value("SOLVER.OPTIMIZER.GROUPS"))
    betas = report.value("SOLVER.OPTIMIZER.BETAS")
    inside = Interval(0, 1, open_high=True)
    if len(betas) != 2 or not all(beta in inside for beta in betas):
        report.add(
            "SOLVER.OPTIMIZER.BETAS",
            "AdamW keeps two means, of the gradients and of their squares",
            expected=f"two shares, each {inside}",
        )
    decay = report.value("SOLVER.OPTIMIZER.WEIGHT_DECAY_BIAS")
    if decay < 0 and decay != -1:
        report.add("SOLVER.OPTIMIZER.WEIGHT_DECAY_BIAS", "out of range", expected="a number not below 0, or -1")


def _check_steps(report: Report) -> None:
    key, max_iter = "SOLVER.LR_SCHEDULER.STEPS", report.value("SOLVER.LR_SCHEDULER.MAX_ITER")
    steps, name = report.value(key), report.value("SOLVER.LR_SCHEDULER.NAME")
    if name != "MultiStepLR":
        if steps:
            report.add(key, f"{name} has no steps", mend="leave them out, or set the NAME to MultiStepLR")
        return
    are_iterations = all(type(step) is int and 0 < step < max_iter for step in steps)
    if not steps or not are_iterations or any(later <= step for step, later in pairwise(steps)):
        report.add(
            key,
            "MultiStepLR lowers the learning rate at iterations of the training",
            expected=f"ascending whole numbers between 0 and MAX_ITER={max_iter}",
        )


def _check_one_cycle(report: Report) -> None:
    if report.value("SOLVER.LR_SCHEDULER.NAME") == "OneCycleLR" and report.value("SOLVER.LR_SCHEDULER.WARMUP_ITERS"):
        report.add(
            "SOLVER.LR_SCHEDULER.WARMUP_ITERS",
            "OneCycleLR brings its own warm-up, up to ONE_CYCLE.PEAK_AT",
            mend="set it to 0",
        )


def _check_early_stopping(report: Report) -> None:
    if not report.value("SOLVER.EARLY_STOPPING.METRIC"):
        return
    if not report.value("DATASETS.TEST") or not report.value("TEST.EVAL_PERIOD"):
        report.add(
            "SOLVER.EARLY_STOPPING.METRIC",
            "nothing gives scores during the training",
            mend='name a data set in DATASETS.TEST and set TEST.EVAL_PERIOD, or set the metric to ""',
        )
