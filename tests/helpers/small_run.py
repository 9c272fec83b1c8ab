"""A small run of the real thing: routed network, digit scenes, evaluation, everything that has a state switched on.

At the top of a module, as new processes import it; a command by itself, so that torchrun can start it, too.
"""

import json
import multiprocessing
import os
import signal
import sys
from pathlib import Path

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

SET = "five_digit_scenes"
ITERATIONS = 8
TIMES = ("iteration_seconds", "data_seconds", "images_per_second", "memory_mib")  # what no two runs have in common
SMALL = [
    *("MODEL.BACKBONE.LAYER_NUM", 2, "MODEL.BACKBONE.CELL_NUM_LIST", [2, 3], "MODEL.BACKBONE.MAX_STRIDE", 16),
    *("MODEL.SEM_SEG_HEAD.IN_FEATURES", ["layer_0", "layer_1", "layer_2"], "MODEL.SEM_SEG_HEAD.NUM_CLASSES", 11),
    *("MODEL.BACKBONE.INIT_CHANNEL", 8, "MODEL.BACKBONE.DROP_PROB", 0.5, "MODEL.DEVICE", "cpu"),
    *("MODEL.BUDGET.CONSTRAIN", True, "MODEL.BUDGET.LOSS_WEIGHT", 0.5, "MODEL.BUDGET.LOSS_MU", 0.5),
    *("MODEL.BUDGET.UNUPDATE_RATE", 0.3, "INPUT.MIN_SIZE_TRAIN", [64, 96], "INPUT.CROP_SIZE", [48, 48]),
    *("INPUT.MIN_SIZE_TEST", 0, "DATALOADER.NUM_WORKERS", 0, "DATASETS.TRAIN", [SET], "DATASETS.TEST", [SET]),
    *("SOLVER.IMS_PER_BATCH", 4, "SOLVER.ACCUMULATION_STEPS", 2, "SOLVER.EMA.DECAY", 0.9),
    *("SOLVER.LR_SCHEDULER.MAX_ITER", ITERATIONS, "SOLVER.LR_SCHEDULER.WARMUP_ITERS", 2),
    *("SOLVER.CHECKPOINT_PERIOD", 2, "SOLVER.CHECKPOINT_KEEP_LAST", 2, "SOLVER.BEST_METRIC", f"{SET}/mIoU"),
    *("TEST.EVAL_PERIOD", 3, "TEST.PRECISE_BN.ENABLED", True, "TEST.PRECISE_BN.NUM_ITER", 1, "LOG_PERIOD", 3),
]


def register():
    scenes = DatasetCatalog.get("digit_scenes_val")
    if SET not in DatasetCatalog.names():
        DatasetCatalog.register(SET, lambda: Subset(scenes, range(5)), DatasetCatalog.meta("digit_scenes_val"))


def make_trainer(folder, overrides=(), *, resume=True):
    register()
    cfg = get_cfg()
    cfg.merge_from_list([*SMALL, "OUTPUT_DIR", str(folder), *overrides])
    torch.set_num_threads(1)
    # A process from a fork server would start loaders from one too, where they cannot see that it has been killed.
    multiprocessing.set_start_method("fork", force=True)
    setup_logger(folder, rank=comm.get_rank())
    seed_everything(cfg.SEED, rank=comm.get_rank())
    trainer = DefaultTrainer(cfg)
    trainer.resume_or_load(resume=resume)
    return trainer


def train(folder, overrides=()):
    """The whole training, or what is left of it."""
    make_trainer(folder, overrides).train()


class Killer(Hook):
    """Ends its process as `kill -9` does, when so many steps are done."""

    def __init__(self, iteration):
        self.iteration = iteration

    def after_step(self, trainer):
        if trainer.iteration == self.iteration:
            os.kill(os.getpid(), signal.SIGKILL)


def train_and_die(folder, after, iteration, overrides=()):
    """Dies in an iteration's `after_step`, right behind the hook of this name."""
    trainer = make_trainer(folder, overrides)
    position = [type(hook).__name__ for hook in trainer.hooks].index(after) + 1
    trainer.hooks.insert(position, Killer(iteration))
    trainer.train()


def train_and_die_once(folder):
    """As torchrun restarts it: only the second process of the first attempt dies, between two checkpoints."""
    if os.environ["TORCHELASTIC_RESTART_COUNT"] == "0" and comm.get_rank() == 1:
        train_and_die(folder, "IterationTimer", 5)
    else:
        train(folder)


def final_state(folder):
    return torch.load(folder / "model_final.pth", weights_only=True)


def metrics(folder):
    """The lines of metrics.json without what depends on the clock."""
    lines = [json.loads(line) for line in (folder / "metrics.json").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name not in TIMES} for line in lines]


def assert_same_run(folder, reference):
    """Weights, their average, momenta, learning rates, random states, scores, lines: bit for bit."""
    found, expected = final_state(folder), final_state(reference)
    assert found.keys() == expected.keys()
    for part in ("model", "ema", "optimizer", "scheduler"):
        assert_equal(found[part], expected[part], place=part)
    assert_equal(found["trainer"]["random_states"], expected["trainer"]["random_states"], place="random_states")
    assert metrics(folder) == metrics(reference)
    best = [torch.load(place / "model_best.pth", weights_only=True)["best"] for place in (folder, reference)]
    assert best[0] == best[1]


def assert_equal(found, expected, *, place):
    if isinstance(expected, dict):
        assert found.keys() == expected.keys(), place
        for key, value in expected.items():
            assert_equal(found[key], value, place=f"{place}.{key}")
    elif isinstance(expected, (list, tuple)):
        assert len(found) == len(expected), place
        for index, value in enumerate(expected):
            assert_equal(found[index], value, place=f"{place}[{index}]")
    elif isinstance(expected, torch.Tensor):
        assert torch.equal(found, expected), place
    else:
        assert found == expected, place


if __name__ == "__main__":
    launch(train_and_die_once, device="cpu", args=(Path(sys.argv[1]),))
