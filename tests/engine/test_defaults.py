"""From a config to a finished run of a small routed network on two scenes, and back from its folder."""

import json
import random

import numpy as np
import pytest
import torch
from torch.utils.data import Subset

from dl_lib.config import get_cfg, validate_config
from dl_lib.data import DatasetCatalog
from dl_lib.engine import DefaultTrainer, TrainingInterrupted, default_setup, seed_everything
from tests.engine.toys import At, logging_as_before

TWO_SCENES = "two_digit_scenes"


@pytest.fixture(scope="module", autouse=True)
def two_scenes():
    if TWO_SCENES not in DatasetCatalog.names():
        whole = DatasetCatalog.get("digit_scenes_val")
        DatasetCatalog.register(TWO_SCENES, lambda: Subset(whole, range(2)), DatasetCatalog.meta("digit_scenes_val"))


@pytest.fixture(autouse=True)
def handlers_as_before():
    with logging_as_before():
        yield


def small_config(folder, **settings):
    cfg = get_cfg()
    values = {
        "MODEL.DEVICE": "cpu",
        "MODEL.BACKBONE.LAYER_NUM": 2,
        "MODEL.BACKBONE.CELL_NUM_LIST": [2, 2],
        "MODEL.BACKBONE.INIT_CHANNEL": 8,
        "MODEL.BACKBONE.MAX_STRIDE": 8,
        "MODEL.BACKBONE.NORM": "BN",
        "MODEL.BACKBONE.DROP_PROB": 0.0,
        "MODEL.SEM_SEG_HEAD.NORM": "BN",
        "MODEL.SEM_SEG_HEAD.IN_FEATURES": ["layer_0", "layer_1"],
        "MODEL.SEM_SEG_HEAD.NUM_CLASSES": 11,
        "MODEL.BUDGET.CONSTRAIN": True,
        "MODEL.BUDGET.LOSS_WEIGHT": 0.5,
        "MODEL.BUDGET.LOSS_MU": 0.3,
        "MODEL.BUDGET.UNUPDATE_RATE": 0.5,
        "DATASETS.TRAIN": ["digit_scenes_train"],
        "DATASETS.TEST": [TWO_SCENES],
        "DATALOADER.NUM_WORKERS": 0,
        "INPUT.MIN_SIZE_TRAIN": [],
        "INPUT.MIN_SIZE_TEST": 0,
        "INPUT.CROP_SIZE": [64, 64],
        "SOLVER.IMS_PER_BATCH": 2,
        "SOLVER.CHECKPOINT_PERIOD": 3,
        "SOLVER.LR_SCHEDULER.MAX_ITER": 6,
        "SOLVER.LR_SCHEDULER.WARMUP_ITERS": 2,
        "TEST.EVAL_PERIOD": 4,
        "TEST.PRECISE_BN.ENABLED": True,
        "TEST.PRECISE_BN.NUM_ITER": 2,
        "LOG_PERIOD": 1,
        "OUTPUT_DIR": str(folder),
        **settings,
    }
    cfg.merge_from_list([item for pair in values.items() for item in pair])
    validate_config(cfg)
    return cfg


def run(folder, *, resume=False, stop_after=None):
    cfg = small_config(folder)
    default_setup(cfg)
    trainer = DefaultTrainer(cfg)
    trainer.resume_or_load(resume=resume)
    if stop_after is not None:

        def stop(trainer):
            raise KeyboardInterrupt

        trainer.hooks.append(At(stop_after, stop))
    trainer.train()
    return trainer


def test_interrupted_and_resumed_run_ends_as_an_undisturbed_one(tmp_path):
    whole = run(tmp_path / "whole")
    with pytest.raises(TrainingInterrupted):
        run(tmp_path / "parts", stop_after=2)
    resumed = run(tmp_path / "parts", resume=True)
    assert resumed.start_iteration == 2
    expected = whole.model.state_dict()
    for name, value in resumed.model.state_dict().items():
        assert torch.equal(value, expected[name]) or name.endswith("num_batches_tracked"), name
    lines = {
        part: [json.loads(line) for line in (tmp_path / part / "metrics.json").read_text().splitlines()]
        for part in ("whole", "parts")
    }
    for mine, other in zip(lines["parts"], lines["whole"], strict=True):
        seconds = {name for name in other if name.endswith("_seconds")}
        assert {k: v for k, v in mine.items() if k not in seconds} == {
            k: v for k, v in other.items() if k not in seconds
        }
    assert [line["iteration"] for line in lines["parts"]] == [1, 2, 3, 4, 5, 6]
    scored = {line["iteration"]: line[f"{TWO_SCENES}/mIoU"] for line in lines["whole"] if f"{TWO_SCENES}/mIoU" in line}
    assert scored.keys() == {4, 6}
    assert scored[6] == whole.results[TWO_SCENES].metrics.mean_iou
    assert ["loss_budget" in line for line in lines["whole"]] == [False] * 3 + [True] * 3
    names = {path.name for path in (tmp_path / "whole").iterdir()}
    assert {"config.yaml", "log.txt", "metrics.json", "model_0000003.pth", "model_final.pth", "results.json"} <= names
    assert any(name.startswith("events.out.tfevents") for name in names)


def test_setup_writes_a_config_that_can_be_run_again(tmp_path):
    cfg = small_config(tmp_path / "run", SEED=-1)
    default_setup(cfg)
    again = get_cfg()
    again.merge_from_file(tmp_path / "run" / "config.yaml")
    assert again == cfg
    assert cfg.is_frozen()
    assert cfg.SEED >= 0  # one was drawn, and is written down
    log = (tmp_path / "run" / "log.txt").read_text()
    assert f"seed {cfg.SEED};" in log
    assert torch.__version__ in log


def test_a_folder_is_chosen_where_none_is_given(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cfg = small_config("")
    default_setup(cfg)
    assert (tmp_path / cfg.OUTPUT_DIR / "config.yaml").is_file()
    assert cfg.OUTPUT_DIR.startswith("output")


def test_seeds_repeat_for_a_process_and_differ_between_processes():
    def draw(seed, rank):
        seed_everything(seed, rank=rank)
        return random.random(), np.random.random(), torch.rand(1).item()

    assert draw(5, 0) == draw(5, 0)
    assert all(mine != other for mine, other in zip(draw(5, 0), draw(5, 1), strict=True))
