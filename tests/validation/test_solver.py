"""What is wrong with the optimizer, the learning rates and early stopping."""

import pytest

from dl_lib.config import ConfigError, get_cfg
from dl_lib.validation import validate_config

GROUPS = "SOLVER.OPTIMIZER.GROUPS"
STEPS = "SOLVER.LR_SCHEDULER.STEPS"
MULTI_STEP, ONE_CYCLE = "SOLVER.LR_SCHEDULER.NAME=MultiStepLR", "SOLVER.LR_SCHEDULER.NAME=OneCycleLR"
WATCHING = ["SOLVER.EARLY_STOPPING.METRIC=digit_scenes_val/mIoU", "TEST.EVAL_PERIOD=500"]


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
        [*WATCHING, "SOLVER.EARLY_STOPPING.MODE=min", "SOLVER.EARLY_STOPPING.MIN_DELTA=0.01"],
        ["VIS_PERIOD=100", "TEST.VALIDATION_LOSS=True"],
    ],
)
def test_sound_configurations_pass(overrides):
    validate_config(config(*overrides))


@pytest.mark.parametrize(
    ("overrides", "parts"),
    [
        (["SOLVER.OPTIMIZER.BETAS=[0.9]"], ["BETAS: AdamW keeps two means", "two shares, each a number in [0, 1)"]),
        (["SOLVER.OPTIMIZER.BETAS=[0.9,1]"], ["BETAS: AdamW keeps two means"]),
        (["SOLVER.OPTIMIZER.EPS=0"], ["EPS: out of range. Expected a number above 0"]),
        (
            ["SOLVER.OPTIMIZER.WEIGHT_DECAY_BIAS=-0.5"],
            ["WEIGHT_DECAY_BIAS: out of range. Expected a number not below 0, or -1."],
        ),
        ([f"{GROUPS}=[stem]"], [f"{GROUPS}[0]: a group of parameters is given by keys. Expected PARAMS, LR_MULTI, W"]),
        ([f"{GROUPS}=[{{PARAM: stem, LR_MULTI: 1}}]"], ["no key has this name; nearest: PARAMS", "PARAMS is missing"]),
        ([f"{GROUPS}=[{{PARAMS: '[', LR_MULTI: 1}}]"], ["PARAMS: expected a regular expression", "PARAMS='['"]),
        ([f"{GROUPS}=[{{PARAMS: '', LR_MULTI: 1}}]"], ["PARAMS: expected a regular expression"]),
        ([f"{GROUPS}=[{{PARAMS: 3, LR_MULTI: 1}}]"], ["PARAMS: expected a regular expression", "PARAMS=3"]),
        ([f"{GROUPS}=[{{PARAMS: a, LR_MULTI: -1}}]"], ["LR_MULTI: expected a number not below 0"]),
        ([f"{GROUPS}=[{{PARAMS: a, WEIGHT_DECAY: .nan}}]"], ["WEIGHT_DECAY: expected a number not below 0"]),
        ([f"{GROUPS}=[{{PARAMS: a, WEIGHT_DECAY: True}}]"], ["WEIGHT_DECAY: expected a number not below 0"]),
        ([f"{GROUPS}=[{{PARAMS: a}}]"], [f"{GROUPS}[0]: it changes nothing. Expected LR_MULTI, WEIGHT_DECAY or both"]),
        (
            [f"{GROUPS}=[{{PARAMS: a, LR_MULTI: 1}}, {{PARAMS: a, LR_MULTI: 2}}]"],
            [f"{GROUPS}[1]: an earlier entry has the same names"],
        ),
        (["SOLVER.LR_SCHEDULER.NAME=CosinLR"], ["no learning rate schedule has this name", "Nearest: CosineLR"]),
        (["SOLVER.LR_SCHEDULER.END_FACTOR=1.5"], ["END_FACTOR: out of range"]),
        (["SOLVER.LR_SCHEDULER.GAMMA=0"], ["GAMMA: out of range"]),
        (["SOLVER.LR_SCHEDULER.ONE_CYCLE.PEAK_AT=1"], ["PEAK_AT: out of range. Expected a number in (0, 1)"]),
        (["SOLVER.LR_SCHEDULER.ONE_CYCLE.START_FACTOR=-1"], ["START_FACTOR: out of range"]),
        ([ONE_CYCLE], ["WARMUP_ITERS: OneCycleLR brings its own warm-up, up to ONE_CYCLE.PEAK_AT. Set it to 0. "]),
        ([f"{STEPS}=[5]"], ["STEPS: PolyLR has no steps. Leave them out, or set the NAME to MultiStepLR"]),
        *(
            ([MULTI_STEP, f"{STEPS}={steps}"], ["STEPS: MultiStepLR lowers", "ascending whole numbers between 0 and"])
            for steps in ([], [0], [5, 5], [7, 5], [190_000], [2.5], ["a"])
        ),
        (["SOLVER.EARLY_STOPPING.MODE=best"], ["no way to compare scores has this name"]),
        (["SOLVER.EARLY_STOPPING.PATIENCE=0"], ["PATIENCE: out of range"]),
        (["SOLVER.EARLY_STOPPING.MIN_DELTA=-1"], ["MIN_DELTA: out of range"]),
        (WATCHING[:1], ["METRIC: nothing gives scores during the training. Name a data set in DATASETS.TEST and set"]),
        ([*WATCHING[:1], "DATASETS.TEST=[]"], ["METRIC: nothing gives scores during the training"]),
        (["VIS_PERIOD=-1"], ["VIS_PERIOD: out of range"]),
        (["VIS_PERIOD=50", "LOG_PERIOD=20"], ["would be gone. Expected a multiple of LOG_PERIOD=20"]),
    ],
)
def test_each_mistake_is_named_with_its_key_and_value(overrides, parts):
    listed = problems(*overrides)
    assert listed.startswith("the configuration cannot be used: ")
    assert "Received: " in listed
    for part in parts:
        assert part in listed


def test_all_mistakes_of_the_solver_are_listed_at_once():
    entries = "[{PARAMS: a}, {PARAMS: '('}]"
    assert "4 problems" in problems(f"{GROUPS}={entries}", ONE_CYCLE, "SOLVER.OPTIMIZER.EPS=-1")


def test_an_evaluation_has_no_training_to_stop():
    validate_config(config(*WATCHING[:1]), purpose="evaluation")
