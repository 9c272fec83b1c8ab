"""Training: the loop, its hooks, and what starts it.

`DefaultTrainer` and `default_setup` know the whole library; the rest of the engine takes any model.
"""

from dl_lib.engine.defaults import DefaultTrainer, default_setup, seed_everything
from dl_lib.engine.interrupt import TrainingInterrupted
from dl_lib.engine.launch import launch
from dl_lib.engine.trainer import NonFiniteLossError, Trainer

__all__ = [
    "DefaultTrainer",
    "NonFiniteLossError",
    "Trainer",
    "TrainingInterrupted",
    "default_setup",
    "launch",
    "seed_everything",
]
