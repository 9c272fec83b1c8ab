"""Training engine: training loop, hooks and default setup.

`DefaultTrainer` and `default_setup` use the whole library; the loop in `engine.training` accepts any model.
"""

from dl_lib.engine.defaults import DefaultTrainer
from dl_lib.engine.setup import build_configured_model, default_setup
from dl_lib.engine.training.interrupt import TrainingInterrupted
from dl_lib.engine.training.trainer import NonFiniteLossError, Trainer

__all__ = [
    "DefaultTrainer",
    "NonFiniteLossError",
    "Trainer",
    "TrainingInterrupted",
    "build_configured_model",
    "default_setup",
]
