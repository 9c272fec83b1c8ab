"""Evaluation folders: names, and settings that must not change under one name."""

import pytest

from dl_lib.config import ConfigError, get_cfg, write_config
from dl_lib.evaluation.report.folder import check_settings, evaluation_name, recorded_config

FOLDER = {"NAME": "val", "IMAGES": "i", "LABELS": "l", "CLASSES": ["a", "b"]}


def config(**settings):
    cfg = get_cfg()
    cfg.merge_from_list(["DATASETS.TEST", ["val"], "DATASETS.FOLDERS", [FOLDER], "MODEL.WEIGHTS", "model_final.pth"])
    cfg.merge_from_list([item for pair in settings.items() for item in pair])
    return cfg


@pytest.mark.parametrize(
    ("saved", "new", "given", "changed"),
    [
        ({}, {}, True, None),
        ({"SEED": 1, "MODEL.DEVICE": "cpu", "SOLVER.IMS_PER_BATCH": 3, "OUTPUT_DIR": "a"}, {}, True, None),
        ({"DATASETS.FOLDERS": [FOLDER, {**FOLDER, "NAME": "train"}]}, {}, True, None),
        ({"DATASETS.FOLDERS": [{**FOLDER, "LABELS": "m"}]}, {}, True, "DATASETS.FOLDERS"),
        ({"DATASETS.TEST": ["test"]}, {}, True, "DATASETS.TEST"),
        ({}, {"TEST.SLIDING.WINDOW": [64, 64]}, True, "TEST.SLIDING.WINDOW"),
        ({}, {"INPUT.MIN_SIZE_TEST": 512}, True, "INPUT.MIN_SIZE_TEST"),
        ({}, {"MODEL.WEIGHTS": "model_0000500.pth"}, True, "MODEL.WEIGHTS"),
        ({}, {"MODEL.WEIGHTS": "model_0000500.pth"}, False, None),
        ({"MODEL.WEIGHTS": "model_best.pth"}, {}, False, "MODEL.WEIGHTS"),
        ({"MODEL.WEIGHTS": "https://example.org/a.pth"}, {"MODEL.WEIGHTS": "https://example.org/a.pth"}, True, None),
    ],
)
def test_an_evaluation_under_other_settings_is_not_replaced(tmp_path, saved, new, given, changed):
    check_settings(config(**new), tmp_path / "absent", weights_are_given=given)
    write_config(recorded_config(config(**saved)), tmp_path)
    if changed is None:
        check_settings(config(**new), tmp_path, weights_are_given=given)
    else:
        with pytest.raises(
            ConfigError, match=rf"under other settings; .*\({changed} was .*\)\. Received: folder='{tmp_path}'$"
        ):
            check_settings(config(**new), tmp_path, weights_are_given=given)


def test_another_folder_is_not_replaced(tmp_path):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(ConfigError, match=r"--name: this folder exists but holds no evaluation"):
        check_settings(config(), tmp_path, weights_are_given=True)


def test_default_name():
    assert evaluation_name(None, dataset_names=["a", "b"]) == "a+b"
    assert evaluation_name("mine", dataset_names=["a", "b"]) == "mine"
    with pytest.raises(ConfigError, match=r"add --name NAME"):
        evaluation_name(None, dataset_names=["a" * 50, "b" * 50])
