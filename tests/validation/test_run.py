"""Rules for `TEST`: execution, scores and saved predictions."""

from contextlib import nullcontext

import pytest

from dl_lib.config import ConfigError, get_cfg
from dl_lib.validation import run, validate_config


def config(*overrides):
    cfg = get_cfg()
    cfg.merge_from_list(["DATASETS.TEST=[cityscapes_fine_sem_seg_val]", *overrides])
    return cfg


@pytest.mark.parametrize(
    "overrides",
    [
        ["TEST.SLIDING.WINDOW=[512,1024]", "TEST.SLIDING.OVERLAP=0"],
        ["TEST.SLIDING.WINDOW=[32,64]", "TEST.SLIDING.OVERLAP=0.875"],
        ["TEST.SLIDING.WINDOW=[128,128]", "MODEL.GATE.SMALL_GATE=True"],
        ["TEST.MULTI_SCALE.SCALES=[0.5,1,1.75]", "TEST.MULTI_SCALE.FLIP=True"],
        ["TEST.SAVE_PREDICTIONS=[label_png,coco_rle]", "TEST.BOUNDARY_IOU=True"],
        ["TEST.ABSENT_CLASSES=zero_if_predicted", "TEST.OFFICIAL_SCORES=True"],
        ["TEST.OFFICIAL_SCORES=True", "DATASETS.TEST=[cityscapes_fine_sem_seg_test,cityscapes_fine_sem_seg_val]"],
    ],
)
def test_valid_configs_pass(overrides):
    validate_config(config(*overrides), purpose="evaluation")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["TEST.ABSENT_CLASSES=zero"], "ABSENT_CLASSES must be one of exclude, zero_if_predicted"),
        (
            ["TEST.SAVE_PREDICTIONS=[png,label_png]"],
            "PREDICTIONS must contain only values from label_png, coco_rle",
        ),
        (["TEST.SLIDING.WINDOW=[512]"], r"WINDOW must have 2 elements, or \[\]"),
        (["TEST.SLIDING.WINDOW=[512,-64]"], r"WINDOW must contain only values in \[1, 16384\]"),
        (
            ["TEST.SLIDING.WINDOW=[500,64]"],
            r"must be multiples of 32, .* and at least 32; use \[512, 64\]",
        ),
        (["TEST.SLIDING.WINDOW=[10,64]"], r"use \[32, 64\]"),
        (
            ["TEST.SLIDING.WINDOW=[64,512]", "MODEL.GATE.SMALL_GATE=True"],
            r"multiples of 32, .* at least 128 with MODEL\.GATE\.SMALL_GATE=True; use \[128, 512\]",
        ),
        (
            ["TEST.SLIDING.WINDOW=[32,512]", "TEST.SLIDING.OVERLAP=0.9"],
            r"OVERLAP must be at most 0\.87: windows of \[32, 512\] must start at least 4 pixels apart",
        ),
        (["TEST.SLIDING.OVERLAP=1"], r"OVERLAP must be in \[0, 1\)"),
        (["TEST.MULTI_SCALE.SCALES=[]"], "SCALES must have at least 1 element"),
        (["TEST.MULTI_SCALE.SCALES=[1.0,0]"], r"SCALES must contain only values in \[0\.05, 20\]"),
        (["TEST.MULTI_SCALE.SCALES=[1,1.0]"], "SCALES must not contain a value twice"),
        (
            ["TEST.EXECUTION=compiled", "TEST.OPTIMIZE=False"],
            "EXECUTION must not be compiled with TEST.OPTIMIZE=False, which evaluates the model itself",
        ),
        (
            ["TEST.OFFICIAL_SCORES=True", "DATASETS.TEST=[cityscapes_fine_sem_seg_test]"],
            "OFFICIAL_SCORES needs a labelled Cityscapes dataset .*such as cityscapes_fine_sem_seg_val",
        ),
    ],
)
def test_each_problem_names_key_and_value(overrides, message):
    with pytest.raises(ConfigError, match=message) as caught:
        validate_config(config(*overrides), purpose="evaluation")
    # With several problems, a list would follow.
    assert str(caught.value).startswith("invalid config: TEST.")
    assert "Received: TEST." in str(caught.value)


def test_bfloat16_needs_instructions_for_it(monkeypatch):
    for is_fast in (True, False):
        monkeypatch.setattr(run, "has_bfloat16", lambda device, is_fast=is_fast: is_fast)
        with nullcontext() if is_fast else pytest.raises(ConfigError, match="PRECISION must be float32: bf16 needs"):
            validate_config(config("TEST.PRECISION=bf16", "MODEL.DEVICE=cpu"), purpose="evaluation")


def test_compiled_evaluation_needs_a_compiler(monkeypatch):
    for path in ("/usr/bin/g++", None):
        monkeypatch.setattr(run.shutil, "which", lambda name, path=path: path)
        with nullcontext() if path else pytest.raises(ConfigError, match="compiled without a C"):
            validate_config(config("TEST.EXECUTION=compiled", "MODEL.DEVICE=cpu"), purpose="evaluation")


def test_an_unknown_dataset_is_reported_once():
    with pytest.raises(ConfigError) as caught:
        validate_config(config("TEST.OFFICIAL_SCORES=True", "DATASETS.TEST=[nonsense]"), purpose="evaluation")
    assert str(caught.value).count("is not a registered dataset") == 1


def test_a_missing_package_is_reported_before_anything_runs(monkeypatch):
    monkeypatch.setattr(run, "is_installed", lambda name: False)
    message = r"OFFICIAL_SCORES needs cityscapesScripts.*pip install 'dl_lib\[cityscapes\]'"
    with pytest.raises(ConfigError, match=message):
        validate_config(config("TEST.OFFICIAL_SCORES=True"), purpose="evaluation")
    validate_config(config(), purpose="evaluation")
    message = r"TRACKERS needs wandb, which is not installed; run: pip install 'dl_lib\[wandb\]'"
    with pytest.raises(ConfigError, match=message):
        validate_config(config("TRACKERS=[wandb]"), purpose="training")
    validate_config(config("TRACKERS=[wandb]"), purpose="evaluation")  # of a run trained elsewhere


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["TRACKERS=[tensorbord]"],
            r"TRACKERS must contain only values from .*\(nearest to 'tensorbord': tensorboard\)",
        ),
        (["TRACKERS=[tensorboard,tensorboard]"], "TRACKERS must not contain a value twice"),
        (["TRACKERS=[]", "VIS_PERIOD=20"], r"VIS_PERIOD must be 0 without TRACKERS.*set TRACKERS=\[tensorboard\]"),
    ],
)
def test_invalid_trackers(overrides, message):
    with pytest.raises(ConfigError, match=message):
        validate_config(config(*overrides), purpose="training")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["DATASETS.TEST=[]"], "VALIDATION_LOSS must be False without a dataset in DATASETS.TEST"),
        (
            ["DATASETS.TEST=[cityscapes_fine_sem_seg_val,cityscapes_fine_sem_seg_test]"],
            r"VALIDATION_LOSS must be False with unlabelled datasets .*\(cityscapes_fine_sem_seg_test\)",
        ),
        (["DATASETS.TEST=[]", "TEST.VALIDATION_LOSS=False", "VIS_PERIOD=20"], "VIS_PERIOD must be 0 without a dataset"),
    ],
)
def test_validation_losses_and_figures_need_a_dataset(overrides, message):
    with pytest.raises(ConfigError, match=message):
        validate_config(config("TEST.VALIDATION_LOSS=True", *overrides), purpose="training")
