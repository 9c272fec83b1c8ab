"""Training: the loop, its hooks, and what starts it.

`DefaultTrainer` and `default_setup` know the whole library; the rest of the engine takes any model.
"""

from dl_lib.engine.defaults import DefaultTrainer, build_configured_model, default_setup
from dl_lib.engine.interrupt import TrainingInterrupted
from dl_lib.engine.launch import LaunchError, launch
from dl_lib.engine.trainer import NonFiniteLossError, Trainer

__all__ = [
    "DefaultTrainer",
    "LaunchError",
    "NonFiniteLossError",
    "Trainer",
    "TrainingInterrupted",
    "build_configured_model",
    "default_setup",
    "launch",
]
