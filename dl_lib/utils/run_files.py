"""File names of a run folder (`OUTPUT_DIR`)."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable
from pathlib import Path

__all__ = [
    "BASES_NAME",
    "BEFORE_AFTER_STEM",
    "BEST_CHECKPOINT",
    "CHECKPOINT_SUFFIX",
    "CHECKSUM_SUFFIX",
    "CONFIG_NAME",
    "CONFUSION_STEM",
    "COPIED_ON_ARCHIVE",
    "DAMAGED_METRICS_STEM",
    "DEBUG_NAME",
    "EARLIER_RUN_STEM",
    "EVALUATIONS_NAME",
    "EXPORT_STEM",
    "EXPORT_SUFFIXES",
    "FINAL_CHECKPOINT",
    "GATES_STEM",
    "IMAGE_COSTS_STEM",
    "IMAGE_ROUTES_STEM",
    "LAST_CHECKPOINT_NAME",
    "LATENCY_STEM",
    "LOCK_NAME",
    "LOGS",
    "LOG_NAME",
    "LR_FINDER_STEM",
    "MAX_RESULTS_BYTES",
    "METRICS_NAME",
    "MOVED_ON_ARCHIVE",
    "PER_IMAGE_STEM",
    "PREDICTIONS_NAME",
    "REPORT_DATA_STEM",
    "RESULTS_MARKDOWN_NAME",
    "RESULTS_NAME",
    "ROUTE_NAME",
    "ROUTE_STEM",
    "SUBMISSION_STEM",
    "SWEEPS_NAME",
    "SWEEP_STEM",
    "TRACKER_STEM",
    "dataset_suffix",
    "evaluation_folder",
    "is_evaluation_folder",
    "log_name",
    "numbered_checkpoint",
    "run_name",
    "sweep_folder",
    "tracker_name",
]

CONFIG_NAME = "config.yaml"  # in an experiment folder: keys that differ; in a run folder: all keys
BASES_NAME = "base_nets"  # 00/net.py, 01/net.py, … of the bases of the config
LOCK_NAME = ".folder.lock"  # host and process id of the process that writes to the folder
LOG_NAME = "log.txt"  # main process; see `log_name`
METRICS_NAME = "metrics.json"  # one JSON object per line
DAMAGED_METRICS_STEM = "metrics_damaged"  # .json; copy of a metrics file with invalid lines, numbered from 2 on
DEBUG_NAME = "debug"  # folder with the last steps whose loss or gradient is not finite
TRACKER_STEM = "tracker"  # followed by `_<name>.json`: id of the run of an experiment tracker; see `tracker_name`

EVALUATIONS_NAME = "evaluations"  # folder with a subfolder for each `dl_lib evaluate`; see `evaluation_folder`
RESULTS_NAME = "results.json"  # latest evaluation of the training run; in an evaluation folder, that evaluation
MAX_RESULTS_BYTES = 2**26  # far more than a results.json has
RESULTS_MARKDOWN_NAME = "results.md"
# With several datasets, the stem is followed by `_<dataset>`.
PER_IMAGE_STEM = "per_image"  # .csv
CONFUSION_STEM = "confusion"  # .csv, .png
ROUTE_STEM = "route"  # .png
IMAGE_COSTS_STEM = "image_costs"  # .png
IMAGE_ROUTES_STEM = "image_routes"  # .png
GATES_STEM = "gates"  # .npz
REPORT_DATA_STEM = "report_data"  # .npz
PREDICTIONS_NAME = "predictions"  # folder with a subfolder for each dataset
SUBMISSION_STEM = "submission"  # .zip, .tgz

SWEEPS_NAME = "sweeps"  # folder with a subfolder for each `dl_lib sweep`; see `sweep_folder`
SWEEP_STEM = "threshold_sweep"  # .json, .md, .png

LR_FINDER_STEM = "find_lr"  # .csv, .png
LATENCY_STEM = "latency_table"  # followed by `_<height>x<width>`: .json, .csv, .png

# Of networks made by `dl_lib freeze-route` and `dl_lib specialise`.
ROUTE_NAME = "route.json"
BEFORE_AFTER_STEM = "before_after"  # .json, .md

EXPORT_STEM = "exported"
EXPORT_SUFFIXES = {  # by format; first that of the file to open
    "onnx": (".onnx",),
    "torch-export": (".pt2",),
    "openvino": (".xml", ".bin"),
    "weights": (".safetensors",),
}

LAST_CHECKPOINT_NAME = "last_checkpoint"  # holds the file name of the latest checkpoint
FINAL_CHECKPOINT = "model_final"  # stem of the checkpoint after the last iteration
BEST_CHECKPOINT = "model_best"  # stem of the checkpoint with the best evaluation metric
CHECKPOINT_SUFFIX = ".pth"
CHECKSUM_SUFFIX = ".sha256"  # appended to the checkpoint's file name

# Shell patterns of the files and folders that a run and its evaluations write.
EARLIER_RUN_STEM = "earlier_run"  # followed by `_<number>`: subfolder with the files of an earlier run
LOGS = (LOG_NAME, "log_rank*.txt")
COPIED_ON_ARCHIVE = (CONFIG_NAME, "*.py", f"{BASES_NAME}/**/*.py")
MOVED_ON_ARCHIVE = (
    *(
        METRICS_NAME,
        f"{DAMAGED_METRICS_STEM}*.json",
        "events.out.tfevents.*",
        f"{TRACKER_STEM}_*.json",
        LAST_CHECKPOINT_NAME,
        RESULTS_NAME,
        RESULTS_MARKDOWN_NAME,
    ),
    *(f"{stem}{CHECKPOINT_SUFFIX}*" for stem in ("model_[0-9]*", FINAL_CHECKPOINT, BEST_CHECKPOINT)),
    *(f"{PER_IMAGE_STEM}*.csv", f"{CONFUSION_STEM}*.csv", f"{CONFUSION_STEM}*.png", f"{ROUTE_STEM}*.png"),
    *(f"{IMAGE_COSTS_STEM}*.png", f"{IMAGE_ROUTES_STEM}*.png", f"{GATES_STEM}*.npz", f"{REPORT_DATA_STEM}*.npz"),
    *(DEBUG_NAME, PREDICTIONS_NAME, f"{SUBMISSION_STEM}_*", EVALUATIONS_NAME, SWEEPS_NAME),
    *(ROUTE_NAME, f"{BEFORE_AFTER_STEM}.*", f"{EXPORT_STEM}.*"),
)


def dataset_suffix(name: str, *, among: Collection[str]) -> str:
    """Return what follows the stem of an evaluation's files on a dataset; nothing if it is the only one."""
    return "" if len(among) == 1 else f"_{name}"


def evaluation_folder(run_folder: Path, name: str) -> Path:
    """Return the folder of an evaluation with `dl_lib evaluate`."""
    return run_folder / EVALUATIONS_NAME / name


def is_evaluation_folder(folder: Path) -> bool:
    """Return whether a folder is that of an evaluation or of a sweep."""
    return _real_path(folder).parent.name in (EVALUATIONS_NAME, SWEEPS_NAME)


def sweep_folder(run_folder: Path, name: str) -> Path:
    """Return the folder of a sweep with `dl_lib sweep`."""
    return run_folder / SWEEPS_NAME / name


def log_name(rank: int) -> str:
    """Return the log file name of a process: log.txt for the main process, log_rankN.txt for the others."""
    return LOG_NAME if rank == 0 else f"log_rank{rank}.txt"


def tracker_name(tracker: str) -> str:
    """Return the name of the file with the id of a tracker's run, such as tracker_wandb.json."""
    return f"{TRACKER_STEM}_{tracker}.json"


def numbered_checkpoint(iteration: int) -> str:
    """Return the stem of the checkpoint after `iteration` steps, such as model_0000500."""
    return f"model_{iteration:07d}"


def run_name(folder: Path, *, among: Iterable[Path]) -> str:
    """Return the name of a run folder, or RUN/NAME of an evaluation; the path if several folders have the same name."""
    name = _folder_name(folder)
    return str(folder) if sum(_folder_name(other) == name for other in among) > 1 else name


def _folder_name(folder: Path) -> str:
    path = _real_path(folder)
    return f"{path.parents[1].name}/{path.name}" if is_evaluation_folder(folder) else path.name


def _real_path(path: Path) -> Path:
    return Path(os.path.realpath(path))  # for a loop of symbolic links, `Path.resolve` raises RuntimeError
