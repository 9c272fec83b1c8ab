"""Options of the routed network that exclude each other."""

import pytest

from dl_lib.config import ConfigError, get_cfg
from dl_lib.validation import validate_config

BOTH = ["MODEL.COMPILE=True", "MODEL.ACTIVATION_CHECKPOINTING=True"]


def config(*overrides):
    cfg = get_cfg()
    sets = ["DATASETS.TRAIN=[digit_scenes_train]", "DATASETS.TEST=[digit_scenes_val]"]
    cfg.merge_from_list(["MODEL.SEM_SEG_HEAD.NUM_CLASSES=11", *sets, *overrides])
    return cfg


def test_compilation_excludes_activation_checkpointing():
    for one in BOTH:
        validate_config(config(one))
    message = r"ACTIVATION_CHECKPOINTING must be False with MODEL\.COMPILE=True.*=True$"
    with pytest.raises(ConfigError, match=message):
        validate_config(config(*BOTH))


def test_an_evaluation_may_have_both():
    validate_config(config(*BOTH), purpose="evaluation")
