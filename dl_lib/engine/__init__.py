"""Training: the loop, and its hooks.

`DefaultTrainer` and `default_setup` know the whole library; the rest of the engine takes any model.
"""

from dl_lib.engine.defaults import DefaultTrainer, build_configured_model, default_setup
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
