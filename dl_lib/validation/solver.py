"""Rules between the keys of `SOLVER.OPTIMIZER`, `SOLVER.LR_SCHEDULER` and `SOLVER.EARLY_STOPPING`."""

from __future__ import annotations

from dl_lib.solver.group_rules import group_rule_problems
from dl_lib.validation.report import Report

__all__ = ["check_solver"]


def check_solver(report: Report) -> None:
    """Add the problems of optimizer, schedule and early stopping."""
    report.problems += group_rule_problems(report.value("SOLVER.OPTIMIZER.GROUPS"))
    _check_schedule(report)
    evaluates = report.value("DATASETS.TEST") and report.value("TEST.EVAL_PERIOD")
    if report.trains and report.value("SOLVER.EARLY_STOPPING.METRIC") and not evaluates:
        report.add(
            "SOLVER.EARLY_STOPPING.METRIC",
            "needs evaluations during training; name a dataset in DATASETS.TEST and set TEST.EVAL_PERIOD",
        )


def _check_schedule(report: Report) -> None:
    name, max_iter = report.value("SOLVER.LR_SCHEDULER.NAME"), report.value("SOLVER.LR_SCHEDULER.MAX_ITER")
    key = "SOLVER.LR_SCHEDULER.STEPS"
    steps = report.value(key)
    if name == "MultiStepLR" and not (steps and max(steps) < max_iter):
        report.add(key, f"must name at least one iteration with MultiStepLR, all below MAX_ITER={max_iter}")
    elif name != "MultiStepLR" and steps:
        report.add(key, f"must be [] with {name}; only MultiStepLR has steps")
    if name == "OneCycleLR" and report.value("SOLVER.LR_SCHEDULER.WARMUP_ITERS"):
        report.add("SOLVER.LR_SCHEDULER.WARMUP_ITERS", "must be 0 with OneCycleLR, which has its own warmup")
