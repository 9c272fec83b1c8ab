"""Everything that happens beside the training step."""

from dl_lib.engine.training.hook import Hook, RepeatedHook
from dl_lib.engine.hooks.best_checkpointer import BestCheckpoint
from dl_lib.engine.hooks.periodic_checkpointer import PeriodicCheckpoint
from dl_lib.engine.hooks.early_stopping import EarlyStopping
from dl_lib.engine.hooks.ema import UpdateEma
from dl_lib.engine.hooks.eval_hook import Evaluation
from dl_lib.engine.hooks.metric_logger import LogLines
from dl_lib.engine.hooks.visualization import Pictures
from dl_lib.engine.hooks.precise_bn import PreciseBN, recompute_norm_statistics
from dl_lib.engine.hooks.progress_bar import Progress
from dl_lib.engine.hooks.lr_scheduler import LRSchedule
from dl_lib.engine.hooks.timer import IterationTimer
from dl_lib.engine.hooks.periodic_writer import WriteMetrics

__all__ = [
    "BestCheckpoint",
    "EarlyStopping",
    "Evaluation",
    "Hook",
    "IterationTimer",
    "LRSchedule",
    "LogLines",
    "PeriodicCheckpoint",
    "Pictures",
    "PreciseBN",
    "Progress",
    "RepeatedHook",
    "UpdateEma",
    "WriteMetrics",
    "recompute_norm_statistics",
]
