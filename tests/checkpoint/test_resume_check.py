"""Config differences that prevent resuming, are logged, or are ignored."""

import pytest
import torch

from dl_lib.checkpoint.files import read_checkpoint, save_checkpoint
from dl_lib.checkpoint.resume_check import Difference, ResumeConflictError, resume_changes, resume_conflicts
from dl_lib.checkpoint.state_check import is_plain
from dl_lib.config import get_cfg

CONFLICTING = {
    "MODEL.META_ARCHITECTURE": "Other",
    "MODEL.PIXEL_MEAN": [0.0, 0.0, 0.0],
    "MODEL.BACKBONE.LAYER_NUM": 33,
    "MODEL.BACKBONE.CELL_NUM_LIST": [2, 3, 4],
    "MODEL.BACKBONE.CELL_TYPE": ["conv_3x3_basic"],
    "MODEL.BACKBONE.NORM": "GN",
    "MODEL.GATE.GATE_ON": False,
    "MODEL.GATE.UNREACHED": "published",
    "MODEL.SEM_SEG_HEAD.NUM_CLASSES": 21,
    "MODEL.SEM_SEG_HEAD.IGNORE_VALUE": 0,
    "MODEL.SEM_SEG_HEAD.NORM": "FrozenBN",
    "MODEL.AUXILIARY_HEADS.IN_FEATURES": ["layer_1"],
    "INPUT.FORMAT": "RGB",
    "SOLVER.OPTIMIZER.NAME": "AdamW",
}
LOGGED = {
    "MODEL.DEVICE": "cpu",
    "MODEL.COMPILE": True,
    "MODEL.CHANNELS_LAST": False,
    "MODEL.BACKBONE.DROP_PROB": 0.5,
    "MODEL.BACKBONE.NORM": "BN",
    "MODEL.BUDGET.LOSS_MU": 0.7,
    "MODEL.AUXILIARY_HEADS.LOSS_WEIGHT": 0.1,
    "MODEL.LOSS.OHEM.ENABLED": True,
    "DATASETS.TRAIN": ["other"],
    "DATASETS.FOLDERS": [{"NAME": "mine", "LABEL_MAP": {7: 0, "8-9": "ignore"}}],
    "INPUT.CROP_SIZE": [512, 512],
    "SOLVER.OPTIMIZER.BASE_LR": 0.2,
    "SOLVER.LR_SCHEDULER.MAX_ITER": 8,
    "SOLVER.IMS_PER_BATCH": 16,
    "SOLVER.GRAD_CLIP": 0.0,
    "SEED": 5,
}
IGNORED = {
    "MODEL.WEIGHTS": "other.pth",
    "MODEL.ALLOW_MISSING_KEYS": ["gate"],
    "MODEL.ALLOW_UNEXPECTED_KEYS": ["fc"],
    "MODEL.ACTIVATION_CHECKPOINTING": True,
    "DATASETS.TEST": ["other"],
    "DATALOADER.NUM_WORKERS": 0,
    "SOLVER.CHECKPOINT_PERIOD": 7,
    "SOLVER.CHECKPOINT_KEEP_LAST": 2,
    "SOLVER.BEST_METRIC": "a/mIoU",
    "TEST.EVAL_PERIOD": 3,
    "OUTPUT_DIR": "elsewhere",
    "LOG_PERIOD": 1,
    "PROCESS_TIMEOUT_SECONDS": 60.0,
}


def test_equal_configuration_has_no_differences_after_a_round_trip(tmp_path):
    flat = {**get_cfg().flat(), "DATASETS.FOLDERS": LOGGED["DATASETS.FOLDERS"]}
    save_checkpoint({"model": {"a": torch.zeros(1)}, "config": flat}, tmp_path / "a.pth")
    saved = read_checkpoint(tmp_path / "a.pth")["config"]
    assert is_plain(saved)
    assert resume_conflicts(saved, flat) == resume_changes(saved, flat) == []


@pytest.mark.parametrize(("key", "value"), [*CONFLICTING.items(), *LOGGED.items(), *IGNORED.items()])
def test_kind_of_each_key(key, value):
    saved, present = get_cfg().flat(), {**get_cfg().flat(), key: value}
    assert key in saved
    found = [Difference(key, saved=saved[key], present=value)]
    conflicting, logged = (key, value) in CONFLICTING.items(), (key, value) in LOGGED.items()
    assert resume_conflicts(saved, present) == (found if conflicting else [])
    assert resume_changes(saved, present) == (found if logged else [])


def test_every_key_of_the_model_has_one_kind_and_unknown_keys_are_reported():
    saved = dict.fromkeys((*get_cfg().flat(), "MODEL.NEW.KEY", "SOLVER.NEW_KEY"), "a")
    present = dict.fromkeys(saved, "b")
    conflicting = {difference.key for difference in resume_conflicts(saved, present)}
    logged = {difference.key for difference in resume_changes(saved, present)}
    assert not conflicting & logged
    free = {"MODEL.WEIGHTS", "MODEL.ALLOW_MISSING_KEYS", "MODEL.ALLOW_UNEXPECTED_KEYS"}
    free |= {"MODEL.ACTIVATION_CHECKPOINTING"}
    assert {key for key in saved if key.startswith("MODEL.")} - conflicting - logged == free
    assert "MODEL.NEW.KEY" in conflicting
    assert "SOLVER.NEW_KEY" in logged


def test_key_of_one_side_only_is_not_compared():
    flat = get_cfg().flat()
    older = {key: value for key, value in flat.items() if key != "MODEL.GATE.UNREACHED"}
    assert resume_conflicts(older, flat) == resume_conflicts(flat, older) == []
    assert resume_changes({**flat, "SOLVER.OPTIMIZER.OLD": 1}, flat) == []


def test_error_lists_every_difference():
    saved = get_cfg().flat()
    error = ResumeConflictError(resume_conflicts(saved, {**saved, **CONFLICTING}), path="run/model_0000500.pth")
    assert {difference.key for difference in error.differences} == CONFLICTING.keys()
    for key, value in CONFLICTING.items():
        assert f"\n  {key} was {saved[key]!r} in the checkpoint and is {value!r} now\n" in str(error)
    assert str(error).endswith("Received: path='run/model_0000500.pth'")
