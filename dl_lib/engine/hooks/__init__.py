"""Everything that happens beside the training step."""

from dl_lib.engine.hooks.base import Hook, RepeatedHook
from dl_lib.engine.hooks.best_checkpoint import BestCheckpoint
from dl_lib.engine.hooks.checkpoint import PeriodicCheckpoint
from dl_lib.engine.hooks.early_stopping import EarlyStopping
from dl_lib.engine.hooks.ema import UpdateEma
from dl_lib.engine.hooks.evaluation import Evaluation
from dl_lib.engine.hooks.log_lines import LogLines
from dl_lib.engine.hooks.pictures import Pictures
from dl_lib.engine.hooks.precise_bn import PreciseBN, recompute_norm_statistics
from dl_lib.engine.hooks.progress import Progress
from dl_lib.engine.hooks.schedule import LRSchedule
from dl_lib.engine.hooks.timer import IterationTimer
from dl_lib.engine.hooks.writing import WriteMetrics

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
