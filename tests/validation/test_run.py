"""What is wrong with `TEST`: how images are run, scored and saved."""

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
def test_sound_configurations_pass(overrides):
    validate_config(config(*overrides), purpose="evaluation")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["TEST.ABSENT_CLASSES=zero"], r"no rule for absent classes has this name.*zero_if_predicted"),
        (["TEST.SAVE_PREDICTIONS=[png,label_png]"], r"cannot be saved as png\. Expected any of label_png, coco_rle"),
        (["TEST.SAVE_PREDICTIONS=[1]"], "cannot be saved as 1"),
        (["TEST.SLIDING.WINDOW=[512]"], r"two sides\. Expected \[height, width\]"),
        (["TEST.SLIDING.WINDOW=[512,-64]"], "two sides"),
        (["TEST.SLIDING.WINDOW=[512.5,64]"], "two sides"),
        (
            ["TEST.SLIDING.WINDOW=[500,64]"],
            r"coarsest stride 32\. Expected multiples of 32 from 32, such as \[512, 64\]",
        ),
        (["TEST.SLIDING.WINDOW=[10,64]"], r"such as \[32, 64\]"),
        (
            ["TEST.SLIDING.WINDOW=[64,512]", "MODEL.GATE.SMALL_GATE=True"],
            r"small gate looks at a quarter.*multiples of 32 from 128, such as \[128, 512\]",
        ),
        (
            ["TEST.SLIDING.WINDOW=[32,512]", "TEST.SLIDING.OVERLAP=0.9"],
            r"OVERLAP: windows of \[32, 512\] would lie less than 4 pixels apart, .*\. Expected at most 0\.87\.",
        ),
        (["TEST.SLIDING.OVERLAP=1"], r"OVERLAP: out of range\. Expected a number in \[0, 1\)"),
        (["TEST.MULTI_SCALE.SCALES=[]"], r"SCALES: .*Expected numbers above 0; \[1\.0\]"),
        (["TEST.MULTI_SCALE.SCALES=[1.0,0]"], "SCALES: .*Expected numbers above 0"),
        (["TEST.MULTI_SCALE.SCALES=[1,1.0]"], "SCALES: a scale stands there twice"),
        (
            ["TEST.OFFICIAL_SCORES=True", "DATASETS.TEST=[cityscapes_fine_sem_seg_test]"],
            r"OFFICIAL_SCORES: none of DATASETS.TEST.*such as cityscapes_fine_sem_seg_val",
        ),
    ],
)
def test_each_mistake_is_named_with_its_key_and_value(overrides, message):
    with pytest.raises(ConfigError, match=message) as caught:
        validate_config(config(*overrides), purpose="evaluation")
    # Of several problems there would be a list.
    assert str(caught.value).startswith("the configuration cannot be used: TEST.")
    assert "Received: TEST." in str(caught.value)


def test_a_data_set_that_does_not_exist_is_named_once():
    with pytest.raises(ConfigError) as caught:
        validate_config(config("TEST.OFFICIAL_SCORES=True", "DATASETS.TEST=[nonsense]"), purpose="evaluation")
    assert str(caught.value).count("no data set is registered") == 1


def test_a_missing_script_is_noticed_before_anything_runs(monkeypatch):
    monkeypatch.setattr(run, "find_spec", lambda name: None)
    message = r"OFFICIAL_SCORES: .*cityscapesScripts.*Install it with: pip install -e \.\[cityscapes\]"
    with pytest.raises(ConfigError, match=message):
        validate_config(config("TEST.OFFICIAL_SCORES=True"), purpose="evaluation")
    validate_config(config(), purpose="evaluation")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["DATASETS.TEST=[]"], "VALIDATION_LOSS: there is nothing to compute the losses on, DATASETS.TEST is empty"),
        (
            ["DATASETS.TEST=[cityscapes_fine_sem_seg_val,cityscapes_fine_sem_seg_test]"],
            "VALIDATION_LOSS: .*on, cityscapes_fine_sem_seg_test has no ground truth. Name labelled data sets",
        ),
        (["DATASETS.TEST=[]", "TEST.VALIDATION_LOSS=False", "VIS_PERIOD=20"], "VIS_PERIOD: pictures are of"),
    ],
)
def test_validation_losses_and_pictures_need_something_to_look_at(overrides, message):
    with pytest.raises(ConfigError, match=message):
        validate_config(config("TEST.VALIDATION_LOSS=True", *overrides), purpose="training")
