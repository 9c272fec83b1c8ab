"""File names of a run folder (`OUTPUT_DIR`)."""

from __future__ import annotations

__all__ = [
    "BEST_CHECKPOINT",
    "CHECKPOINT_SUFFIX",
    "CHECKSUM_SUFFIX",
    "CONFIG_NAME",
    "CONFUSION_STEM",
    "EARLIER_CHECKPOINTS_NAME",
    "FINAL_CHECKPOINT",
    "LAST_CHECKPOINT_NAME",
    "LOCK_NAME",
    "LOG_NAME",
    "LR_FINDER_STEM",
    "METRICS_NAME",
    "PER_IMAGE_STEM",
    "RESULTS_MARKDOWN_NAME",
    "RESULTS_NAME",
    "ROUTE_STEM",
    "log_name",
    "numbered_checkpoint",
]

CONFIG_NAME = "config.yaml"  # in an experiment folder: keys that differ; in a run folder: all keys
LOCK_NAME = ".folder.lock"  # host and process id of the process that writes to the folder
LOG_NAME = "log.txt"  # main process; see `log_name`
METRICS_NAME = "metrics.json"  # one JSON object per line

RESULTS_NAME = "results.json"  # latest evaluation
RESULTS_MARKDOWN_NAME = "results.md"
# With several datasets, the stem is followed by `_<dataset>`.
PER_IMAGE_STEM = "per_image"  # .csv
CONFUSION_STEM = "confusion"  # .csv, .png
ROUTE_STEM = "route"  # .png

LR_FINDER_STEM = "find_lr"  # .csv, .png

LAST_CHECKPOINT_NAME = "last_checkpoint"  # holds the file name of the latest checkpoint
EARLIER_CHECKPOINTS_NAME = "earlier_checkpoints"  # lists checkpoints of earlier runs in the same folder
FINAL_CHECKPOINT = "model_final"  # stem of the checkpoint after the last iteration
BEST_CHECKPOINT = "model_best"  # stem of the checkpoint with the best evaluation metric
CHECKPOINT_SUFFIX = ".pth"
CHECKSUM_SUFFIX = ".sha256"  # appended to the checkpoint's file name


def log_name(rank: int) -> str:
    """Return the log file name of a process: log.txt for the main process, log_rankN.txt for the others."""
    return LOG_NAME if rank == 0 else f"log_rank{rank}.txt"


def numbered_checkpoint(iteration: int) -> str:
    """Return the stem of the checkpoint after `iteration` steps, such as model_0000500."""
    return f"model_{iteration:07d}"
