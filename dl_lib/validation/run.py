"""Checks of `SOLVER`, `TEST` and the keys of the run itself."""

from __future__ import annotations

import math
from collections.abc import Iterable
from contextlib import suppress
from importlib.util import find_spec

from dl_lib.data import DatasetCatalog, DatasetMeta
from dl_lib.data.build import local_batch_size
from dl_lib.data.errors import DataError
from dl_lib.validation.model import coarsest_stride, has_small_gates, logits_stride
from dl_lib.validation.report import Interval, Report
from dl_lib.validation.solver import SCORE_MODES, check_solver

__all__ = ["check_run"]

PRECISIONS = ("float32", "bf16", "fp16")
CLIP_TYPES = ("norm", "value")
NON_FINITE_POLICIES = ("stop", "skip")
EXECUTIONS = ("sparse", "dense")
ABSENT_RULES = ("exclude", "zero_if_predicted")
SAVED_FORMS = ("label_png", "coco_rle")
RANGES = {
    "SOLVER.IMS_PER_BATCH": Interval(1),
    "SOLVER.ACCUMULATION_STEPS": Interval(1),
    "SOLVER.MAX_NON_FINITE": Interval(1),
    "SOLVER.EMA.DECAY": Interval(0, 1, open_high=True),
    "SOLVER.CHECKPOINT_PERIOD": Interval(0),
    "SOLVER.CHECKPOINT_KEEP_LAST": Interval(0),
    "SOLVER.CHECKPOINT_KEEP_EVERY": Interval(0),
    "SOLVER.GRAD_CLIP": Interval(0),
    "TEST.EVAL_PERIOD": Interval(0),
    "TEST.SLIDING.OVERLAP": Interval(0, 1, open_high=True),
    "TEST.PRECISE_BN.NUM_ITER": Interval(1),
    "PROCESS_TIMEOUT_SECONDS": Interval(0, open_low=True),
    "SEED": Interval(-1),
    "LOG_PERIOD": Interval(1),
    "VIS_PERIOD": Interval(0),
}


def check_run(report: Report) -> None:
    """Note everything that is wrong with the training, the evaluation and the run's own keys."""
    for key, interval in RANGES.items():
        report.within(key, interval)
    check_solver(report)
    report.one_of("SOLVER.PRECISION", PRECISIONS, what="precision")
    report.one_of("SOLVER.GRAD_CLIP_TYPE", CLIP_TYPES, what="way to clip gradients")
    report.one_of("SOLVER.NON_FINITE", NON_FINITE_POLICIES, what="policy for losses that are not finite")
    report.one_of("SOLVER.BEST_METRIC_MODE", SCORE_MODES, what="way to compare scores")
    report.one_of("TEST.EXECUTION", EXECUTIONS, what="way of execution")
    report.one_of("TEST.ABSENT_CLASSES", ABSENT_RULES, what="rule for absent classes")
    _check_predictions(report)
    _check_windows(report)
    _check_scales(report)
    if report.trains:
        _check_batch(report)
        _check_evaluation(report)
        _check_pictures(report)
        _check_validation_loss(report)
        _check_checkpoints(report)


def _check_batch(report: Report) -> None:
    if min(report.value("SOLVER.IMS_PER_BATCH"), report.value("SOLVER.ACCUMULATION_STEPS")) > 0:
        report.collect(local_batch_size, report.cfg, world_size=report.world_size)


def _check_evaluation(report: Report) -> None:
    if report.value("TEST.EVAL_PERIOD") > 0 and not report.value("DATASETS.TEST"):
        report.add(
            "TEST.EVAL_PERIOD",
            "there is nothing to evaluate on, DATASETS.TEST is empty",
            mend="name a data set there, or set the period to 0",
        )


def _check_pictures(report: Report) -> None:
    period = report.value("VIS_PERIOD")
    if period <= 0:
        return
    if not report.value("DATASETS.TEST"):
        report.add(
            "VIS_PERIOD",
            "pictures are of the first sample of DATASETS.TEST, which is empty",
            mend="name a data set there, or set the period to 0",
        )
    log_period = max(1, int(report.value("LOG_PERIOD")))  # a wrong one has a line of its own
    if period % log_period:
        report.add(
            "VIS_PERIOD",
            "a run that goes on makes what is in TensorBoard anew from its last scalars on, and pictures that "
            "came between two of them would be gone",
            expected=f"a multiple of LOG_PERIOD={log_period}",
        )


def _check_validation_loss(report: Report) -> None:
    names, key = report.value("DATASETS.TEST"), "TEST.VALIDATION_LOSS"
    if not report.value(key):
        return
    unlabelled = [name for name, meta in _known_metas(names) if not meta.labelled]
    if not names or unlabelled:
        found = f"{', '.join(unlabelled)} has no ground truth" if unlabelled else "DATASETS.TEST is empty"
        report.add(
            key,
            f"there is nothing to compute the losses on, {found}",
            mend="name labelled data sets there alone, or set it to False",
        )


def _check_checkpoints(report: Report) -> None:
    if report.value("SOLVER.CHECKPOINT_KEEP_EVERY") and not report.value("SOLVER.CHECKPOINT_KEEP_LAST"):
        report.add(
            "SOLVER.CHECKPOINT_KEEP_EVERY",
            "it says what stays of those that are deleted, and SOLVER.CHECKPOINT_KEEP_LAST=0 keeps all",
            mend="give the number of the newest to keep, such as 2, or set this to 0",
        )
    if report.value("SOLVER.BEST_METRIC") and not report.value("DATASETS.TEST"):
        report.add(
            "SOLVER.BEST_METRIC",
            "there is nothing that gives scores, DATASETS.TEST is empty",
            mend='name a data set there, or set the metric to ""',
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
    metas = [meta for _, meta in _known_metas(report.value("DATASETS.TEST"))]
    if not any(meta.benchmark == "cityscapes" and meta.labelled for meta in metas):
        report.add(
            "TEST.OFFICIAL_SCORES",
            "none of DATASETS.TEST has an official script and ground truth that it could be compared with",
            expected="a labelled data set of Cityscapes, such as cityscapes_fine_sem_seg_val",
        )


def _known_metas(names: Iterable[str]) -> list[tuple[str, DatasetMeta]]:
    """By name; the check of the data sets says what is wrong with the others."""
    metas = []
    for name in names:
        with suppress(DataError):
            metas.append((name, DatasetCatalog.meta(name)))
    return metas


def _check_windows(report: Report) -> None:
    key, window = "TEST.SLIDING.WINDOW", report.value("TEST.SLIDING.WINDOW")
    if not window:
        return
    if len(window) != 2 or not all(type(side) is int and side > 0 for side in window):
        report.add(key, "a window has two sides", expected="[height, width] in pixels; [] runs the whole image")
        return
    divisor = coarsest_stride(report)
    if divisor is None:
        return
    small_gate = has_small_gates(report)
    smallest = 4 * divisor if small_gate else divisor
    if any(side % divisor or side < smallest for side in window):
        nearest = [max(smallest, round(side / divisor) * divisor) for side in window]
        why = " and a small gate looks at a quarter of its sides" if small_gate else ""
        report.add(
            key,
            f"a window is padded to multiples of the network's coarsest stride {divisor}{why}",
            expected=f"multiples of {divisor} from {smallest}, such as {nearest}",
        )
    else:
        _check_overlap(report, min(window))


def _check_overlap(report: Report, side: int) -> None:
    """Of windows whose smaller side this is: they begin at different cells of the logits' grid."""
    key, step = "TEST.SLIDING.OVERLAP", logits_stride(report)
    if step and side - math.ceil(report.value(key) * side) < step:
        report.add(
            key,
            f"windows of {report.value('TEST.SLIDING.WINDOW')} would lie less than {step} pixels apart, the stride of "
            "the logits",
            expected=f"at most {math.floor(100 * (1 - step / side)) / 100:g}",
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
