"""Hooks of the training loop."""

from dl_lib.engine.hooks.best_checkpointer import BestCheckpointer
from dl_lib.engine.hooks.budget_calibration import BudgetCalibration
from dl_lib.engine.hooks.budget_controller import BudgetController
from dl_lib.engine.hooks.early_stopping import EarlyStopping
from dl_lib.engine.hooks.eval_hook import EvalHook
from dl_lib.engine.hooks.label_check import LabelCheck
from dl_lib.engine.hooks.metric_logger import MetricLogger
from dl_lib.engine.hooks.optimization import EMAHook, LRScheduler
from dl_lib.engine.hooks.periodic_checkpointer import PeriodicCheckpointer
from dl_lib.engine.hooks.periodic_writer import PeriodicWriter
from dl_lib.engine.hooks.precise_bn import PreciseBN, recompute_norm_statistics
from dl_lib.engine.hooks.progress_bar import ProgressBar
from dl_lib.engine.hooks.slow_steps import SlowStepWarning
from dl_lib.engine.hooks.timer import IterationTimer
from dl_lib.engine.hooks.visualization import PeriodicVisualizer
from dl_lib.engine.training.hook import HOOK_REGISTRY, Hook, PeriodicHook

__all__ = [
    "HOOK_REGISTRY",
    "BestCheckpointer",
    "BudgetCalibration",
    "BudgetController",
    "EMAHook",
    "EarlyStopping",
    "EvalHook",
    "Hook",
    "IterationTimer",
    "LRScheduler",
    "LabelCheck",
    "MetricLogger",
    "PeriodicCheckpointer",
    "PeriodicHook",
    "PeriodicVisualizer",
    "PeriodicWriter",
    "PreciseBN",
    "ProgressBar",
    "SlowStepWarning",
    "recompute_norm_statistics",
]
