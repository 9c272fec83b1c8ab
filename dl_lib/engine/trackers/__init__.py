"""Experiment trackers: TensorBoard, Weights & Biases and MLflow, and the interface of custom trackers."""

from dl_lib.engine.trackers.guard import GuardedTracker, build_trackers
from dl_lib.engine.trackers.mlflow_tracker import MLflowTracker
from dl_lib.engine.trackers.registry import TRACKER_REGISTRY, HParam, Tracker
from dl_lib.engine.trackers.tensorboard_tracker import TensorBoardTracker
from dl_lib.engine.trackers.wandb_tracker import WandbTracker

__all__ = [
    "TRACKER_REGISTRY",
    "GuardedTracker",
    "HParam",
    "MLflowTracker",
    "TensorBoardTracker",
    "Tracker",
    "WandbTracker",
    "build_trackers",
]
