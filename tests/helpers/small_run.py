"""Small run of a routed network on digit scenes with every stateful feature enabled.

Functions are at module level, since spawned processes import them; the module is also a script, so that torchrun can
start it.
"""

import json
import multiprocessing
import os
import signal
import sys
from pathlib import Path
from unittest.mock import patch

import torch
from torch.utils.data import Subset

from dl_lib.config import get_cfg
from dl_lib.data import DatasetCatalog
from dl_lib.engine import DefaultTrainer
from dl_lib.engine.hooks import Hook
from dl_lib.engine.setup import seed_everything
from dl_lib.launch.launch import launch
from dl_lib.utils import comm
from dl_lib.utils.logger import setup_logger

DATASET = "five_digit_scenes"
ITERATIONS = 8
TIMES = ("iteration_seconds", "data_seconds", "images_per_second", "memory_mib")  # differ between runs
SMALL = [
    *("MODEL.BACKBONE.LAYER_NUM", 2, "MODEL.BACKBONE.CELL_NUM_LIST", [2, 3], "MODEL.BACKBONE.MAX_STRIDE", 16),
    *("MODEL.SEM_SEG_HEAD.IN_FEATURES", ["layer_0", "layer_1", "layer_2"], "MODEL.SEM_SEG_HEAD.NUM_CLASSES", 11),
    *("MODEL.BACKBONE.INIT_CHANNEL", 8, "MODEL.BACKBONE.DROP_PROB", 0.5, "MODEL.DEVICE", "cpu"),
    *("MODEL.BUDGET.CONSTRAIN", True, "MODEL.BUDGET.CONTROL", "target", "MODEL.BUDGET.TARGET", 0.5),
    *("MODEL.BUDGET.UNUPDATE_RATE", 0.3, "INPUT.MIN_SIZE_TRAIN", [64, 96], "INPUT.CROP_SIZE", [48, 48]),
    *("INPUT.MIN_SIZE_TEST", 0, "DATALOADER.NUM_WORKERS", 0, "DATASETS.TRAIN", [DATASET], "DATASETS.TEST", [DATASET]),
    *("SOLVER.IMS_PER_BATCH", 4, "SOLVER.ACCUMULATION_STEPS", 2, "SOLVER.EMA.DECAY", 0.9),
    *("SOLVER.LR_SCHEDULER.MAX_ITER", ITERATIONS, "SOLVER.LR_SCHEDULER.WARMUP_ITERS", 2),
    *("SOLVER.CHECKPOINT_PERIOD", 2, "SOLVER.CHECKPOINT_KEEP_LAST", 2, "SOLVER.BEST_METRIC", f"{DATASET}/mIoU"),
    *("TEST.EVAL_PERIOD", 3, "TEST.PRECISE_BN.ENABLED", True, "TEST.PRECISE_BN.NUM_ITER", 1, "LOG_PERIOD", 3),
]


def register():
    scenes = DatasetCatalog.get("digit_scenes_val")
    if DATASET not in DatasetCatalog.names():
        DatasetCatalog.register(DATASET, lambda: Subset(scenes, range(5)), DatasetCatalog.meta("digit_scenes_val"))


def make_trainer(folder, overrides=(), *, resume=True):
    register()
    cfg = get_cfg()
    cfg.merge_from_list([*SMALL, "OUTPUT_DIR", str(folder), *overrides])
    torch.set_num_threads(1)
    # Workers started by a fork server would not notice that this process was killed.
    multiprocessing.set_start_method("fork", force=True)
    setup_logger(folder, rank=comm.get_rank())
    seed_everything(cfg.SEED, rank=comm.get_rank())
    trainer = DefaultTrainer(cfg)
    trainer.resume_or_load(resume=resume)
    return trainer


def train(folder, overrides=()):
    """Train until the end, from the start or the last checkpoint."""
    _train(make_trainer(folder, overrides))


class Killer(Hook):
    """Hook that sends SIGKILL to its own process after a given step."""

    def __init__(self, iteration):
        self.iteration = iteration

    def after_step(self, trainer):
        if trainer.iteration == self.iteration:
            os.kill(os.getpid(), signal.SIGKILL)


def train_and_kill(folder, after, iteration, overrides=()):
    """Kill the process in `after_step` of an iteration, right after the hook `after`."""
    trainer = make_trainer(folder, overrides)
    position = [type(hook).__name__ for hook in trainer.hooks].index(after) + 1
    trainer.hooks.insert(position, Killer(iteration))
    _train(trainer)


def _train(trainer):
    """Train without figures of the evaluations, which take longer than the rest of the run."""
    with patch("dl_lib.evaluation.report.write._draw", return_value={}):
        trainer.train()


def train_and_kill_once(folder):
    """Under torchrun: kill rank 1 of the first attempt between two checkpoints."""
    if os.environ["TORCHELASTIC_RESTART_COUNT"] == "0" and comm.get_rank() == 1:
        train_and_kill(folder, "IterationTimer", 5)
    else:
        train(folder)


def final_state(folder):
    return torch.load(folder / "model_final.pth", weights_only=True)


def metrics(folder):
    """Return the lines of metrics.json without times and memory."""
    lines = [json.loads(line) for line in (folder / "metrics.json").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name not in TIMES} for line in lines]


def assert_same_run(folder, reference):
    """Assert bit-exact weights, EMA, optimizer, scheduler, hooks, random states, best metric and metrics.json."""
    found, expected = final_state(folder), final_state(reference)
    assert found.keys() == expected.keys()
    for part in ("model", "ema", "optimizer", "scheduler"):
        assert_equal(found[part], expected[part], path=part)
    for part in ("random_states", "hooks"):
        assert_equal(found["trainer"][part], expected["trainer"][part], path=part)
    assert metrics(folder) == metrics(reference)
    best = [torch.load(run / "model_best.pth", weights_only=True)["best"] for run in (folder, reference)]
    assert best[0] == best[1]


def assert_equal(found, expected, *, path):
    if isinstance(expected, dict):
        assert found.keys() == expected.keys(), path
        for key, value in expected.items():
            assert_equal(found[key], value, path=f"{path}.{key}")
    elif isinstance(expected, (list, tuple)):
        assert len(found) == len(expected), path
        for index, value in enumerate(expected):
            assert_equal(found[index], value, path=f"{path}[{index}]")
    elif isinstance(expected, torch.Tensor):
        assert torch.equal(found, expected), path
    else:
        assert found == expected, path


if __name__ == "__main__":
    launch(train_and_kill_once, device="cpu", args=(Path(sys.argv[1]),))
