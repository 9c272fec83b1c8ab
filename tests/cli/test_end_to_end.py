"""Playground experiments run from the command line, from the published dataset layouts to scores and submissions.

Datasets have only a few small images and training only a few iterations; everything else is as in normal use.
"""

import csv
import json
import tarfile
import zipfile
from pathlib import Path

import pytest
import yaml

from tests.helpers.dataset_files import AUGMENTED_NAMES, VOC_NAMES, write_cityscapes, write_sbd, write_voc
from tests.helpers.forked import run_command as run

ROOT = Path(__file__).parents[2]
SHORT = [
    *("MODEL.DEVICE=cpu", "MODEL.BACKBONE.NORM=BN", "MODEL.SEM_SEG_HEAD.NORM=BN", "DATALOADER.NUM_WORKERS=1"),
    *("MODEL.BACKBONE.LAYER_NUM=3", "MODEL.BACKBONE.CELL_NUM_LIST=[2,3,4]", "MODEL.BACKBONE.INIT_CHANNEL=8"),
    *("SOLVER.IMS_PER_BATCH=2", "SOLVER.LR_SCHEDULER.MAX_ITER=2", "TEST.PRECISE_BN.NUM_ITER=1", "LOG_PERIOD=1"),
]


def results_of(folder):
    return json.loads((folder / "results.json").read_text())["datasets"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole_way")
    write_cityscapes(folder / "data", images_per_city=2)
    write_voc(folder / "data")
    write_sbd(folder / "data")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DL_DATASETS", str(folder / "data"))
        yield folder


def test_cityscapes(folder):
    config = str(ROOT / "playground/Dynamic/Seg.Layer16")
    sizes = ["INPUT.MIN_SIZE_TRAIN=[64,96]", "INPUT.CROP_SIZE=[64,64]", "INPUT.MIN_SIZE_TEST=64"]
    run("check-dataset", "cityscapes_fine_sem_seg_train", cwd=folder)
    for name, cache in (("plain", "none"), ("cached", "memmap")):
        words = [f"DATALOADER.CACHE={cache}", f"OUTPUT_DIR={name}", *SHORT, *sizes]
        run("train", "--config-file", config, *words, cwd=folder)
    plain, cached = (results_of(folder / name)["cityscapes_fine_sem_seg_val"] for name in ("plain", "cached"))
    assert plain["images"] == 4
    assert {**plain, "seconds_per_image": 0} == {**cached, "seconds_per_image": 0}, "the cache must not change results"
    words = ["DATASETS.TEST=[cityscapes_fine_sem_seg_val,cityscapes_fine_sem_seg_test]", "TEST.OFFICIAL_SCORES=True"]
    words += ["TEST.ABSENT_CLASSES=zero_if_predicted", "--submission"]
    printed = run("evaluate", "--config-file", "plain", "--name", "official", *words, cwd=folder)
    assert any("official IoU" in line for line in printed)
    official = folder / "plain/evaluations/official"
    scores = results_of(official)["cityscapes_fine_sem_seg_val"]
    assert scores["mIoU"] == scores["official"]["mean_class_IoU"]
    with zipfile.ZipFile(official / "submission_cityscapes_fine_sem_seg_test.zip") as archive:
        assert len(archive.namelist()) == 4


def test_frequent_routes_are_trained_as_a_fixed_network(folder):
    """The commands in the header of Paper/Common-A, with the run of `test_cityscapes` as the dynamic network."""
    words = ["--keep", "0.5", "--gates", "one", "--output", "output/frozen"]
    run("freeze-route", "plain", *words, cwd=folder)
    sizes = ["INPUT.MIN_SIZE_TRAIN=[64,96]", "INPUT.CROP_SIZE=[64,64]", "INPUT.MIN_SIZE_TEST=64"]
    run("train", "--config-file", "Paper/Common-A", "OUTPUT_DIR=common", *SHORT, *sizes, cwd=folder)
    frozen, common = (
        yaml.safe_load((folder / name / "config.yaml").read_text())["MODEL"]["BACKBONE"]["ROUTE"]
        for name in ("output/frozen", "common")
    )
    assert frozen == common != []


def test_voc(folder):
    config = str(ROOT / "playground/VOC/Seg.Layer16.Aug")
    run("train", "--config-file", config, "OUTPUT_DIR=voc", "INPUT.CROP_SIZE=[64,64]", *SHORT, cwd=folder)
    assert results_of(folder / "voc")["voc_2012_sem_seg_val"]["images"] == len(VOC_NAMES["val"])
    words = ["DATASETS.TEST=[voc_2012_sem_seg_test]", "OUTPUT_DIR=voc_test"]
    run("evaluate", "--config-file", "voc", "--submission", *words, cwd=folder)
    evaluation = folder / "voc_test/evaluations/voc_2012_sem_seg_test"
    with tarfile.open(evaluation / "submission_voc_2012_sem_seg_test.tgz") as archive:
        assert sum(member.isfile() for member in archive) == len(VOC_NAMES["test"])
    printed = run("check-dataset", "voc_2012_aug_sem_seg_train", "--allow", "absent-classes", cwd=folder)
    assert f"{len(AUGMENTED_NAMES)} samples read" in printed[0]


def test_runs_are_compared(folder):
    """Must be last: compares the runs of the other tests."""
    printed = run("compare-runs", "plain", "cached", "voc", cwd=folder)
    for name in ("plain", "plain/official", "cached", "voc"):
        assert any(name in line for line in printed)
    with (folder / "voc/per_image.csv").open(newline="") as file:
        assert [row["image_id"] for row in csv.DictReader(file)] == VOC_NAMES["val"]
