"""Overrides of one element of a list."""

import pytest

from dl_lib.config import ConfigError, get_cfg
from dl_lib.config.reference import describe_keys

ENTRY = {"NAME": "mine", "IMAGES": "images", "CLASSES": ["a", "b"], "MAP": {7: 0, "8-9": 1}}


@pytest.fixture
def cfg():
    cfg = get_cfg()
    cfg.merge_from_other_cfg({"DATASETS": {"FOLDERS": [ENTRY, {**ENTRY, "NAME": "other"}], "TRAIN": ["x", "y"]}})
    return cfg


@pytest.mark.parametrize(
    ("overrides", "key", "expected"),
    [
        (["DATASETS.FOLDERS.0.IMAGES=2012"], "IMAGES", "2012"),
        (["DATASETS.FOLDERS.0.IMAGES", "a b"], "IMAGES", "a b"),
        (["DATASETS.FOLDERS.0.IMAGES=[a, b]"], "IMAGES", ["a", "b"]),
        (["DATASETS.FOLDERS.0.LABEL_PATTERN={name}_mask.png"], "LABEL_PATTERN", "{name}_mask.png"),
        (["DATASETS.FOLDERS.0.IMAGES={name}_sat"], "IMAGES", "{name}_sat"),
        (["DATASETS.FOLDERS.0.CLASSES=[c, d]"], "CLASSES", ["c", "d"]),
        (["DATASETS.FOLDERS.0.CLASSES.1=c"], "CLASSES", ["a", "c"]),
        (["DATASETS.FOLDERS.0.LABELS=masks"], "LABELS", "masks"),
        (["DATASETS.FOLDERS.0.IGNORE_VALUE=7"], "IGNORE_VALUE", 7),
        (["DATASETS.FOLDERS.0.MAP.7=3"], "MAP", {7: 3, "8-9": 1}),
        (["DATASETS.FOLDERS.0.MAP.8-9=3"], "MAP", {7: 0, "8-9": 3}),
        (["DATASETS.FOLDERS.0={NAME: n}", "DATASETS.FOLDERS.0.IMAGES=i"], "IMAGES", "i"),
        (["DATASETS.FOLDERS=[{NAME: n}]", "DATASETS.FOLDERS.0.IMAGES=i"], "IMAGES", "i"),
    ],
)
def test_one_value_of_an_entry_is_replaced(cfg, overrides, key, expected):
    before = cfg.clone()
    cfg.merge_from_list(overrides)
    assert cfg.DATASETS.FOLDERS[0][key] == expected
    assert cfg.DATASETS.FOLDERS[1:] in (before.DATASETS.FOLDERS[1:], [])
    assert before.DATASETS.FOLDERS[0] == ENTRY


def test_an_element_of_a_plain_list_gets_its_type(cfg):
    cfg.merge_from_list(["INPUT.BLUR_SIGMA.1=3", "DATASETS.TRAIN.0=2012", "SOLVER.OPTIMIZER.BETAS.0", 0.5])
    assert cfg.INPUT.BLUR_SIGMA[1] == 3.0
    assert type(cfg.INPUT.BLUR_SIGMA[1]) is float
    assert cfg.DATASETS.TRAIN == ["2012", "y"]
    assert cfg.SOLVER.OPTIMIZER.BETAS == [0.5, 0.999]


def test_paths_in_an_entry_are_expanded_once(cfg, monkeypatch):
    monkeypatch.setenv("STORE", "/store$x")
    cfg.merge_from_list(["DATASETS.FOLDERS.0.IMAGES=$STORE/i"])
    cfg.merge_from_list(["DATASETS.FOLDERS.0.LABELS=$STORE/l"])
    assert (cfg.DATASETS.FOLDERS[0]["IMAGES"], cfg.DATASETS.FOLDERS[0]["LABELS"]) == ("/store$x/i", "/store$x/l")


@pytest.mark.parametrize(
    ("override", "problem"),
    [
        ("DATASETS.FOLDERS.2.IMAGES=x", r"FOLDERS must be followed by an index from 0 to 1\."),
        (f"DATASETS.FOLDERS.{'9' * 5000}.IMAGES=x", r"FOLDERS must be followed by an index from 0 to 1\."),
        ("DATASETS.FOLDERS.-1.IMAGES=x", r"FOLDERS must be followed by an index from 0 to 1\."),
        ("DATASETS.FOLDERS.IMAGES=x", r"FOLDERS must be followed by an index from 0 to 1\."),
        ("DATASETS.FOLDERS.0.CLASSES.2=x", r"FOLDERS\.0\.CLASSES must be followed by an index from 0 to 1\."),
        ("DATASETS.TEST.0=x", r"TEST has no elements; give the whole list, such as DATASETS\.TEST=\[…\]\."),
        ("DATASETS.TRAIN.0.NAME=x", r"TRAIN\.0 must not be followed by \.NAME: it is a plain value, 'x'\."),
        ("INPUT.CROP_SIZE.0=wide", r"INPUT\.CROP_SIZE\[0\] must be of type int"),
        ("DATASETS.FOLDERS.0=x", r"DATASETS\.FOLDERS\[0\] must be a mapping"),
    ],
)
def test_unknown_elements_raise_and_change_nothing(cfg, override, problem):
    before = cfg.clone()
    with pytest.raises(ConfigError, match=rf"{problem}.*Received: "):
        cfg.merge_from_list([override])
        from dl_lib.validation import validate_config

        validate_config(cfg)
    if "FOLDERS.0=" not in override:
        assert cfg == before


def test_the_listing_shows_the_form_and_finds_the_list_of_an_element():
    assert "DATASETS.FOLDERS.0.NAME=VALUE" in describe_keys("DATASETS.FOLDERS")
    assert describe_keys("DATASETS.FOLDERS.0.IMAGES") == describe_keys("DATASETS.FOLDERS")
