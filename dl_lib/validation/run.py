"""Rules for `SOLVER`, `TEST` and the keys of the run."""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Iterable
from contextlib import suppress

from dl_lib.config import ConfigError
from dl_lib.data import DatasetCatalog, DatasetMeta
from dl_lib.data.build import local_batch_size
from dl_lib.data.errors import DataError
from dl_lib.evaluation.runner.logged import has_known_losses, metric_names
from dl_lib.evaluation.runner.validation_loss import loss_metric
from dl_lib.evaluation.runner.windows import window_starts
from dl_lib.inference.precision import BFLOAT16_DEVICES, has_bfloat16
from dl_lib.modeling.build import resolve_device
from dl_lib.solver.group_rules import group_rule_problems
from dl_lib.utils.extras import TRACKER_EXTRAS, install_command, is_installed
from dl_lib.utils.names import nearest_names
from dl_lib.utils.output_path import check_local
from dl_lib.validation.model import coarsest_stride, logits_stride, smallest_side
from dl_lib.validation.report import Report

__all__ = ["check_run"]

_MAX_METRICS = 30  # listed in a message
_NEEDS_TEST_SET = {
    "TEST.EVAL_PERIOD": "must be 0",
    "VIS_PERIOD": "must be 0",
    "SOLVER.BEST_METRIC": 'must be ""',
    "TEST.VALIDATION_LOSS": "must be False",
}


def check_run(report: Report) -> None:
    """Report problems with training, evaluation and logging."""
    if report.accepts("SOLVER.OPTIMIZER.GROUPS"):
        report.problems += group_rule_problems(report.value("SOLVER.OPTIMIZER.GROUPS"))
    _check_schedule(report)
    for key in ("OUTPUT_DIR", "DATALOADER.CACHE_DIR"):
        report.collect(check_local, report.value(key), key=key)
    _check_optimization(report)
    if report.value("TEST.OFFICIAL_SCORES"):
        _check_official_scores(report)
    if report.value("TEST.SLIDING.WINDOW") and report.accepts("TEST.SLIDING.WINDOW"):
        _check_windows(report)
    if report.trains:
        _check_training(report)


def _check_schedule(report: Report) -> None:
    name, max_iter = report.value("SOLVER.LR_SCHEDULER.NAME"), report.value("SOLVER.LR_SCHEDULER.MAX_ITER")
    key = "SOLVER.LR_SCHEDULER.STEPS"
    steps = report.value(key)
    if name == "MultiStepLR" and not (steps and max(steps) < max_iter):
        report.add(
            key, f"must contain at least one iteration with MultiStepLR, and only iterations below MAX_ITER={max_iter}"
        )
    elif name != "MultiStepLR" and steps:
        report.add(key, f"must be [] with {name}; only MultiStepLR has steps")
    if name == "OneCycleLR" and report.value("SOLVER.LR_SCHEDULER.WARMUP_ITERS"):
        report.add("SOLVER.LR_SCHEDULER.WARMUP_ITERS", "must be 0 with OneCycleLR, which has its own warmup")


def _check_training(report: Report) -> None:
    if report.accepts("SOLVER.IMS_PER_BATCH", "SOLVER.ACCUMULATION_STEPS"):
        report.collect(local_batch_size, report.cfg, world_size=report.world_size)
    if report.value("SOLVER.CHECKPOINT_KEEP_EVERY") > 0 and not report.value("SOLVER.CHECKPOINT_KEEP_LAST"):
        report.add(
            "SOLVER.CHECKPOINT_KEEP_EVERY",
            "must be 0 with SOLVER.CHECKPOINT_KEEP_LAST=0, which keeps all checkpoints; or set KEEP_LAST to 2",
        )
    if not report.value("DATASETS.TEST"):
        for key, requirement in _NEEDS_TEST_SET.items():
            if report.value(key) and report.accepts(key):
                report.add(key, f"{requirement} without a dataset in DATASETS.TEST")
    if report.value("SOLVER.EARLY_STOPPING.METRIC") and not (
        report.value("DATASETS.TEST") and report.value("TEST.EVAL_PERIOD")
    ):
        report.add(
            "SOLVER.EARLY_STOPPING.METRIC",
            "needs evaluations during training; name a dataset in DATASETS.TEST and set TEST.EVAL_PERIOD",
        )
    for key in ("SOLVER.BEST_METRIC", "SOLVER.EARLY_STOPPING.METRIC"):
        if report.value(key) and report.value("DATASETS.TEST"):
            _check_metric(report, key)
    _check_validation_loss(report)
    _check_trackers(report)
    _check_figures(report)


def _check_metric(report: Report, key: str) -> None:
    """Check that evaluations will log the metric of a key."""
    metric, cfg = report.value(key), report.cfg
    try:
        names, has_all = metric_names(cfg), has_known_losses(cfg)
    except (DataError, KeyError):  # an unknown dataset or meta-architecture has its own line
        return
    own_losses = () if has_all else tuple(loss_metric(name, "") for name in cfg.DATASETS.TEST)
    if metric in names or metric.startswith(own_losses):
        return
    listed = ", ".join(names) if len(names) <= _MAX_METRICS else nearest_names(metric, names)
    hint = "" if cfg.TEST.VALIDATION_LOSS else " (validation losses: with TEST.VALIDATION_LOSS=True)"
    report.add(key, f"must name a metric of the evaluation: {listed}{hint}")


def _check_validation_loss(report: Report) -> None:
    unlabelled = [name for name, meta in _known_metas(report.value("DATASETS.TEST")) if not meta.labelled]
    if report.value("TEST.VALIDATION_LOSS") and unlabelled:
        report.add(
            "TEST.VALIDATION_LOSS",
            f"must be False with unlabelled datasets in DATASETS.TEST ({', '.join(unlabelled)})",
        )


def _check_trackers(report: Report) -> None:
    for name in report.value("TRACKERS"):
        if name in TRACKER_EXTRAS and not is_installed(name):
            report.add("TRACKERS", f"needs {name}, which is not installed; run: {install_command(name)}")


def _check_figures(report: Report) -> None:
    period, log_period = report.value("VIS_PERIOD"), report.value("LOG_PERIOD")
    if period and not report.value("TRACKERS"):
        report.add("VIS_PERIOD", "must be 0 without TRACKERS, which show the figures; or set TRACKERS=[tensorboard]")
    if report.accepts("VIS_PERIOD", "LOG_PERIOD") and period % log_period:
        # A resumed run rewrites its TensorBoard file from the last logged scalars on.
        report.add(
            "VIS_PERIOD",
            f"must be a multiple of LOG_PERIOD={log_period}, or a resumed run loses figures written after the last "
            "logged scalars",
        )


def _check_optimization(report: Report) -> None:
    options = {"TEST.EXECUTION": "compiled", "TEST.PRECISION": "bf16"}
    requested = {key: value for key, value in options.items() if report.value(key) == value}
    if not requested:
        return
    for key, value in requested.items():
        if not report.value("TEST.OPTIMIZE"):
            report.add(key, f"must not be {value} with TEST.OPTIMIZE=False, which evaluates the model itself")
    with suppress(ConfigError, RuntimeError):  # an invalid device is reported on its own
        device = resolve_device(report.value("MODEL.DEVICE"))
        if "TEST.PRECISION" in requested and not has_bfloat16(device):
            report.add("TEST.PRECISION", f"must be float32: bf16 needs {BFLOAT16_DEVICES}")
        if "TEST.EXECUTION" in requested and device.type == "cpu" and not _has_cpp_compiler():
            report.add("TEST.EXECUTION", "must not be compiled without a C++ compiler; install g++, or set CXX to one")


def _has_cpp_compiler() -> bool:
    """Return whether there is one of the compilers that torch.compile tries."""
    return any(map(shutil.which, (os.environ.get("CXX", "g++"), "clang++")))


def _check_official_scores(report: Report) -> None:
    key = "TEST.OFFICIAL_SCORES"
    if not is_installed("cityscapesscripts"):
        report.add(key, f"needs cityscapesScripts, which is not installed; run: {install_command('cityscapes')}")
    metas = [meta for _, meta in _known_metas(report.value("DATASETS.TEST"))]
    if not any(meta.benchmark == "cityscapes" and meta.labelled for meta in metas):
        report.add(key, "needs a labelled Cityscapes dataset in DATASETS.TEST, such as cityscapes_fine_sem_seg_val")


def _known_metas(names: Iterable[str]) -> list[tuple[str, DatasetMeta]]:
    """Return name and metadata of the registered datasets; unknown ones are reported separately."""
    metas = []
    for name in names:
        with suppress(DataError):
            metas.append((name, DatasetCatalog.meta(name)))
    return metas


def _check_windows(report: Report) -> None:
    key, window = "TEST.SLIDING.WINDOW", report.value("TEST.SLIDING.WINDOW")
    divisor, smallest = coarsest_stride(report), smallest_side(report)
    if divisor is None or smallest is None:
        return
    if any(side % divisor or side < smallest for side in window):
        nearest = [max(smallest, round(side / divisor) * divisor) for side in window]
        why = " with MODEL.GATE.SMALL_GATE=True" if smallest > divisor else ""
        report.add(
            key,
            f"must be multiples of {divisor}, the coarsest stride of the network, and at least {smallest}{why}; "
            f"use {nearest}",
        )
    else:
        _check_overlap(report, min(window))


def _check_overlap(report: Report, side: int) -> None:
    """Check that adjacent windows with this shorter side start at different logits."""
    key, stride = "TEST.SLIDING.OVERLAP", logits_stride(report)
    if not stride or not report.accepts(key):
        return
    try:
        window_starts(side, window=side, overlap=report.value(key), stride=stride)
    except ValueError:
        highest = math.floor(100 * (1 - stride / side)) / 100
        report.add(
            key,
            f"must be at most {highest:g}: windows of {report.value('TEST.SLIDING.WINDOW')} must start at least "
            f"{stride} pixels apart (stride of the logits)",
        )
