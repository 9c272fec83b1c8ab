"""Checks of `SOLVER`, `TEST` and the keys of the run itself."""

from __future__ import annotations

from dl_lib.config.checks.report import Interval, Report

__all__ = ["check_run"]

OPTIMIZERS = ("SGD", "AdamW")
LR_SCHEDULERS = ("PolyLR",)
EXECUTIONS = ("sparse", "dense")
RANGES = {
    "SOLVER.IMS_PER_BATCH": Interval(1),
    "SOLVER.CHECKPOINT_PERIOD": Interval(0),
    "SOLVER.GRAD_CLIP": Interval(0),
    "SOLVER.OPTIMIZER.BASE_LR": Interval(0, open_low=True),
    "SOLVER.OPTIMIZER.MOMENTUM": Interval(0, 1, open_high=True),
    "SOLVER.OPTIMIZER.WEIGHT_DECAY": Interval(0),
    "SOLVER.OPTIMIZER.WEIGHT_DECAY_NORM": Interval(0),
    "SOLVER.OPTIMIZER.GATE_LR_MULTI": Interval(0),
    "SOLVER.LR_SCHEDULER.MAX_ITER": Interval(1),
    "SOLVER.LR_SCHEDULER.POLY_POWER": Interval(0),
    "SOLVER.LR_SCHEDULER.WARMUP_ITERS": Interval(0),
    "SOLVER.LR_SCHEDULER.WARMUP_FACTOR": Interval(0, 1),
    "TEST.EVAL_PERIOD": Interval(0),
    "TEST.PRECISE_BN.NUM_ITER": Interval(1),
    "SEED": Interval(-1),
    "LOG_PERIOD": Interval(1),
}


def check_run(report: Report) -> None:
    """Note everything that is wrong with the training, the evaluation and the run's own keys."""
    for key, interval in RANGES.items():
        report.within(key, interval)
    report.one_of("SOLVER.OPTIMIZER.NAME", OPTIMIZERS, what="optimizer")
    report.one_of("SOLVER.LR_SCHEDULER.NAME", LR_SCHEDULERS, what="learning rate schedule")
    report.one_of("TEST.EXECUTION", EXECUTIONS, what="way of execution")
    if report.trains:
        _check_batch(report)
        _check_evaluation(report)


def _check_batch(report: Report) -> None:
    images, processes = report.value("SOLVER.IMS_PER_BATCH"), report.world_size
    if images % processes:
        nearest = max(1, round(images / processes)) * processes
        report.add(
            "SOLVER.IMS_PER_BATCH",
            f"{processes} processes share the images of a step equally",
            expected=f"a multiple of {processes}, such as {nearest}",
        )


def _check_evaluation(report: Report) -> None:
    if report.value("TEST.EVAL_PERIOD") > 0 and not report.value("DATASETS.TEST"):
        report.add(
            "TEST.EVAL_PERIOD",
            "there is nothing to evaluate on, DATASETS.TEST is empty",
            mend="name a data set there, or set the period to 0",
        )
