"""Rules for optimizer, learning rate schedule and early stopping."""

import pytest

from dl_lib.config import ConfigError, get_cfg
from dl_lib.validation import validate_config

GROUPS = "SOLVER.OPTIMIZER.GROUPS"
STEPS = "SOLVER.LR_SCHEDULER.STEPS"
MULTI_STEP, ONE_CYCLE = "SOLVER.LR_SCHEDULER.NAME=MultiStepLR", "SOLVER.LR_SCHEDULER.NAME=OneCycleLR"
STOPPING = ["SOLVER.EARLY_STOPPING.METRIC=digit_scenes_val/mIoU", "TEST.EVAL_PERIOD=500"]


def config(*overrides):
    cfg = get_cfg()
    sets = ["DATASETS.TRAIN=[digit_scenes_train]", "DATASETS.TEST=[digit_scenes_val]"]
    cfg.merge_from_list(["MODEL.SEM_SEG_HEAD.NUM_CLASSES=11", *sets, *overrides])
    return cfg


def problems(*overrides):
    with pytest.raises(ConfigError) as caught:
        validate_config(config(*overrides))
    return str(caught.value)


@pytest.mark.parametrize(
    "overrides",
    [
        ["SOLVER.OPTIMIZER.NAME=AdamW", "SOLVER.OPTIMIZER.BETAS=[0,0.95]", "SOLVER.OPTIMIZER.WEIGHT_DECAY_BIAS=0"],
        [f"{GROUPS}=[{{PARAMS: stem, LR_MULTI: 0.1}}, {{PARAMS: '^sem_seg_head', WEIGHT_DECAY: 0}}]"],
        ["SOLVER.LR_SCHEDULER.NAME=CosineLR", "SOLVER.LR_SCHEDULER.END_FACTOR=0.01"],
        [MULTI_STEP, f"{STEPS}=[1,1000,189999]", "SOLVER.LR_SCHEDULER.GAMMA=1"],
        [ONE_CYCLE, "SOLVER.LR_SCHEDULER.WARMUP_ITERS=0", "SOLVER.LR_SCHEDULER.ONE_CYCLE.PEAK_AT=0.5"],
        [*STOPPING, "SOLVER.EARLY_STOPPING.MODE=min", "SOLVER.EARLY_STOPPING.MIN_DELTA=0.01"],
        ["VIS_PERIOD=100", "TEST.VALIDATION_LOSS=True"],
    ],
)
def test_valid_configs_pass(overrides):
    validate_config(config(*overrides))


@pytest.mark.parametrize(
    ("overrides", "parts"),
    [
        (["SOLVER.OPTIMIZER.BETAS=[0.9]"], ["BETAS must have 2 elements"]),
        (["SOLVER.OPTIMIZER.BETAS=[0.9,1]"], ["BETAS must contain only values in [0, 1)"]),
        (["SOLVER.OPTIMIZER.EPS=0"], ["EPS must be in (0, 1]"]),
        (
            ["SOLVER.OPTIMIZER.WEIGHT_DECAY_BIAS=-0.5"],
            ["WEIGHT_DECAY_BIAS must be in [0, 100], or -1 ("],
        ),
        ([f"{GROUPS}=[stem]"], [f"{GROUPS}[0] must be a mapping with the keys PARAMS, LR_MULTI"]),
        (
            [f"{GROUPS}=[{{PARAM: stem, LR_MULTI: 1}}]"],
            ["has an unknown key; nearest: PARAMS", "must have the key PARAMS"],
        ),
        ([f"{GROUPS}=[{{PARAMS: '[', LR_MULTI: 1}}]"], ["PARAMS must be a regular expression", "PARAMS='['"]),
        ([f"{GROUPS}=[{{PARAMS: '', LR_MULTI: 1}}]"], ["PARAMS must be a regular expression"]),
        ([f"{GROUPS}=[{{PARAMS: 3, LR_MULTI: 1}}]"], ["PARAMS must be a regular expression", "PARAMS=3"]),
        ([f"{GROUPS}=[{{PARAMS: a, LR_MULTI: -1}}]"], ["LR_MULTI must be a number in [0, 1000000]"]),
        ([f"{GROUPS}=[{{PARAMS: a, WEIGHT_DECAY: .nan}}]"], ["WEIGHT_DECAY must be a number in [0, 1000000]"]),
        ([f"{GROUPS}=[{{PARAMS: a, WEIGHT_DECAY: True}}]"], ["WEIGHT_DECAY must be a number in [0, 1000000]"]),
        ([f"{GROUPS}=[{{PARAMS: a}}]"], [f"{GROUPS}[0] must set LR_MULTI, WEIGHT_DECAY or both"]),
        (
            [f"{GROUPS}=[{{PARAMS: a, LR_MULTI: 1}}, {{PARAMS: a, LR_MULTI: 2}}]"],
            [f"{GROUPS}[1].PARAMS repeats an earlier entry"],
        ),
        (
            ["SOLVER.LR_SCHEDULER.NAME=CosinLR"],
            ["NAME must be one of PolyLR", ": CosineLR)"],
        ),
        (["SOLVER.LR_SCHEDULER.END_FACTOR=1.5"], ["END_FACTOR must be in [0, 1]"]),
        (["SOLVER.LR_SCHEDULER.GAMMA=0"], ["GAMMA must be in (0, 1]"]),
        (["SOLVER.LR_SCHEDULER.ONE_CYCLE.PEAK_AT=1"], ["PEAK_AT must be in (0, 1)"]),
        (["SOLVER.LR_SCHEDULER.ONE_CYCLE.START_FACTOR=-1"], ["START_FACTOR must be in [0, 1]"]),
        ([ONE_CYCLE], ["WARMUP_ITERS must be 0 with OneCycleLR"]),
        ([f"{STEPS}=[5]"], ["STEPS must be [] with PolyLR; only MultiStepLR has steps"]),
        ([MULTI_STEP, f"{STEPS}=[]"], ["STEPS must contain at least one iteration with MultiStepLR"]),
        ([MULTI_STEP, f"{STEPS}=[190000]"], ["only iterations below MAX_ITER=190000"]),
        ([MULTI_STEP, f"{STEPS}=[0]"], ["STEPS must contain only values in [1, 1000000000]"]),
        ([MULTI_STEP, f"{STEPS}=[5,5]"], ["STEPS must be in strictly ascending order"]),
        ([MULTI_STEP, f"{STEPS}=[7,5]"], ["STEPS must be in strictly ascending order"]),
        (["SOLVER.EARLY_STOPPING.MODE=best"], ["MODE must be one of max, min"]),
        (["SOLVER.EARLY_STOPPING.PATIENCE=0"], ["PATIENCE must be in [1, 1000000000]"]),
        (["SOLVER.EARLY_STOPPING.MIN_DELTA=-1"], ["MIN_DELTA must be in [0, 1000000]"]),
        (STOPPING[:1], ["METRIC needs evaluations during training; name a dataset in"]),
        ([*STOPPING[:1], "DATASETS.TEST=[]"], ["METRIC needs evaluations during training"]),
        (["VIS_PERIOD=-1"], ["VIS_PERIOD must be in [1, 1000000000], or 0"]),
        (["VIS_PERIOD=50", "LOG_PERIOD=20"], ["VIS_PERIOD must be a multiple of LOG_PERIOD=20"]),
    ],
)
def test_each_problem_names_key_and_value(overrides, parts):
    listed = problems(*overrides)
    assert listed.startswith("invalid config: ")
    assert "Received: " in listed
    for part in parts:
        assert part in listed


def test_all_problems_are_listed_at_once():
    entries = "[{PARAMS: a}, {PARAMS: '('}]"
    assert "4 problems" in problems(f"{GROUPS}={entries}", ONE_CYCLE, "SOLVER.OPTIMIZER.EPS=-1")


def test_an_evaluation_ignores_early_stopping():
    validate_config(config(*STOPPING[:1]), purpose="evaluation")
