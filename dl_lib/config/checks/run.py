"""Checks of `SOLVER`, `TEST` and the keys of the run itself."""

from __future__ import annotations

import math
from collections.abc import Iterable
from importlib.util import find_spec

from dl_lib.config.checks.model import lattice_divisor
from dl_lib.config.checks.report import Interval, Report

__all__ = ["check_run"]

OPTIMIZERS = ("SGD", "AdamW")
LR_SCHEDULERS = ("PolyLR",)
EXECUTIONS = ("sparse", "dense")
ABSENT_RULES = ("leave_out", "zero_if_predicted")
SAVED_FORMS = ("label_png", "coco_rle")
FINEST_STEP_PX = 4  # between windows: the stride of the logits
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
    "TEST.SLIDING.OVERLAP": Interval(0, 1, open_high=True),
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
    report.one_of("TEST.ABSENT_CLASSES", ABSENT_RULES, what="rule for absent classes")
    _check_predictions(report)
    _check_windows(report)
    _check_scales(report)
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


def _check_predictions(report: Report) -> None:
    unknown = [form for form in report.value("TEST.SAVE_PREDICTIONS") if form not in SAVED_FORMS]
    if unknown:
        report.add(
            "TEST.SAVE_PREDICTIONS",
            f"predictions cannot be saved as {', '.join(map(str, unknown))}",
            expected=f"any of {', '.join(SAVED_FORMS)}",
        )
    if report.value("TEST.OFFICIAL_SCORES"):
        _check_official_scores(report)


def _check_official_scores(report: Report) -> None:
    if find_spec("cityscapesscripts") is None:
        report.add(
            "TEST.OFFICIAL_SCORES",
            "the official script comes with cityscapesScripts, which is not installed",
            mend="install it with: pip install -e .[cityscapes]",
        )
    if not _has_official_scores(report.value("DATASETS.TEST")):
        report.add(
            "TEST.OFFICIAL_SCORES",
            "none of DATASETS.TEST has an official script and ground truth that it could be compared with",
            expected="a labelled data set of Cityscapes, such as cityscapes_fine_sem_seg_val",
        )


def _has_official_scores(names: Iterable[str]) -> bool:
    from dl_lib.data import DatasetCatalog
    from dl_lib.data.errors import DataError

    for name in names:
        try:
            meta = DatasetCatalog.meta(name)
        except DataError:  # the check of the data sets says what is wrong with them
            continue
        if meta.benchmark == "cityscapes" and meta.labelled:
            return True
    return False


def _check_windows(report: Report) -> None:
    key, window, overlap = "TEST.SLIDING.WINDOW", report.value("TEST.SLIDING.WINDOW"), "TEST.SLIDING.OVERLAP"
    if not window:
        return
    if len(window) != 2 or not all(type(side) is int and side > 0 for side in window):
        report.add(key, "a window has two sides", expected="[height, width] in pixels; [] runs the whole image")
        return
    divisor = lattice_divisor(report)
    if divisor is None:
        return
    small_gate = report.value("MODEL.GATE.SMALL_GATE") and report.value("MODEL.GATE.GATE_ON")
    smallest = 4 * divisor if small_gate else divisor
    if any(side % divisor or side < smallest for side in window):
        nearest = [max(smallest, round(side / divisor) * divisor) for side in window]
        why = " and a small gate looks at a quarter of its sides" if small_gate else ""
        report.add(
            key,
            f"a window is padded to multiples of the lattice's coarsest stride {divisor}{why}",
            expected=f"multiples of {divisor} from {smallest}, such as {nearest}",
        )
    elif min(window) - math.ceil(report.value(overlap) * min(window)) < FINEST_STEP_PX:
        report.add(
            overlap,
            f"windows of {window} would lie less than {FINEST_STEP_PX} pixels apart",
            expected=f"at most {1 - FINEST_STEP_PX / min(window):.2f}",
        )


def _check_scales(report: Report) -> None:
    scales = report.value("TEST.MULTI_SCALE.SCALES")
    if not scales or min(scales) <= 0:
        report.add(
            "TEST.MULTI_SCALE.SCALES",
            "the image is run at shares of its size",
            expected="numbers above 0; [1.0] runs it as it is",
        )
    elif len(set(scales)) < len(scales):
        report.add("TEST.MULTI_SCALE.SCALES", "a scale stands there twice", expected="each number once")
