"""Evaluation from the command line on miniature Cityscapes and VOC datasets: scores, predictions, submissions."""

import csv
import io
import json
import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dl_lib.checkpoint import Checkpointer
from dl_lib.cli import evaluate
from dl_lib.config import get_cfg
from dl_lib.evaluation import evaluate_datasets
from dl_lib.experiment.experiment import load_experiment
from dl_lib.modeling import build_model
from tests.helpers.dataset_files import VOC_NAMES, write_cityscapes, write_voc

ROOT = Path(__file__).parents[2]
VAL, TEST, VOC = "cityscapes_fine_sem_seg_val", "cityscapes_fine_sem_seg_test", "voc_2012_sem_seg_test"
SMALL = [
    *("MODEL.BACKBONE.LAYER_NUM=2", "MODEL.BACKBONE.CELL_NUM_LIST=[2,3]", "MODEL.BACKBONE.MAX_STRIDE=16"),
    *("MODEL.BACKBONE.INIT_CHANNEL=8", "MODEL.SEM_SEG_HEAD.IN_FEATURES=[layer_0,layer_1,layer_2]"),
    *("MODEL.DEVICE=cpu", "DATALOADER.NUM_WORKERS=0", "INPUT.MIN_SIZE_TEST=0"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Datasets, an empty config, and initial weights for 19 and for 21 classes."""
    folder = tmp_path_factory.mktemp("experiment")
    write_cityscapes(folder / "datasets")
    write_voc(folder / "datasets")
    (folder / "config.yaml").write_text("")
    torch.manual_seed(0)
    for num_classes in (19, 21):
        cfg = get_cfg()
        cfg.merge_from_list([*SMALL, f"MODEL.SEM_SEG_HEAD.NUM_CLASSES={num_classes}"])
        torch.save({"model": build_model(cfg).state_dict()}, folder / f"{num_classes}.pth")
    return folder


def command(folder, *words, output):
    """Evaluate in a new process."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    environment.pop("DL_DATASETS", None)  # ./datasets
    line = [sys.executable, str(ROOT / "tools" / "test_net.py"), *SMALL, f"OUTPUT_DIR={output}", *words]
    done = subprocess.run(line, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr


def evaluate_here(folder, *words, output, monkeypatch):
    """Evaluate in this process, which is faster."""
    monkeypatch.chdir(folder)
    monkeypatch.delenv("DL_DATASETS", raising=False)
    cfg = load_experiment("config.yaml", [*SMALL, *words], purpose="evaluation").cfg
    model = build_model(cfg)
    Checkpointer(model).load(cfg.MODEL.WEIGHTS)
    evaluate_datasets(cfg, model, folder / output, submission=True)


def results_of(folder):
    results = json.loads((folder / "results.json").read_text())["datasets"]
    return {name: {k: v for k, v in values.items() if k != "seconds_per_image"} for name, values in results.items()}


def files_of(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_two_processes_give_the_same_results_as_one(folder, monkeypatch):
    """Labelled and unlabelled datasets, sliding windows, two scales, flips, all prediction formats."""
    words = [
        *("MODEL.WEIGHTS=19.pth", f"DATASETS.TEST=[{VAL},{TEST}]", "TEST.SAVE_PREDICTIONS=[label_png,coco_rle]"),
        *("TEST.OFFICIAL_SCORES=True", "TEST.BOUNDARY_IOU=True", "TEST.ABSENT_CLASSES=zero_if_predicted"),
        *("TEST.SLIDING.WINDOW=[64,64]", "TEST.MULTI_SCALE.SCALES=[0.5,1.0]", "TEST.MULTI_SCALE.FLIP=True"),
    ]
    command(folder, *words, "--num-gpus", "2", "--submission", "--name", "new", output="outer")
    evaluate_here(folder, *words, output="one", monkeypatch=monkeypatch)
    one, two = folder / "one", folder / "outer" / "evaluations" / "new"
    assert results_of(one) == results_of(two)
    assert files_of(one / "predictions") == files_of(two / "predictions")
    assert {path.name for path in two.iterdir()} - {path.name for path in one.iterdir()} == {
        *("config.yaml", "log.txt", "log_rank1.txt"),
    }
    val = results_of(one)[VAL]
    assert val["mIoU"] == val["official"]["mean_class_IoU"]
    assert {name: score["IoU"] for name, score in val["classes"].items()} == val["official"]["class_IoU"]
    assert 0 <= val["mBIoU"] <= 1
    assert "mIoU" not in results_of(one)[TEST]
    with (one / f"per_image_{VAL}.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    # 64 x 128 pixels: one window at scale 0.5, three windows of 64 that overlap by a third at scale 1; all flipped.
    assert [row["passes"] for row in rows] == ["8", "8"]
    entries = json.loads((one / "predictions" / TEST / "coco_rle.json").read_text())
    assert {entry["image_id"] for entry in entries} == {"berlin_000000_000019", "bonn_000001_000019"}
    with zipfile.ZipFile(one / f"submission_{TEST}.zip") as archive:
        assert set(archive.namelist()) == {"berlin_000000_000019.png", "bonn_000001_000019.png"}


def test_the_submission_for_voc(folder, monkeypatch):
    words = ["MODEL.WEIGHTS=21.pth", "MODEL.SEM_SEG_HEAD.NUM_CLASSES=21", f"DATASETS.TEST=[{VOC}]"]
    evaluate_here(folder, *words, output="voc", monkeypatch=monkeypatch)
    with tarfile.open(folder / "voc" / f"submission_{VOC}.tgz") as archive:
        files = {Path(member.name): archive.extractfile(member).read() for member in archive if member.isfile()}
    assert {path.parent for path in files} == {Path("results/VOC2012/Segmentation/comp6_test_cls")}
    assert {path.stem for path in files} == set(VOC_NAMES["test"])
    for path, data in files.items():
        with Image.open(folder / "datasets/VOCdevkit/VOC2012/JPEGImages" / f"{path.stem}.jpg") as image:
            label = Image.open(io.BytesIO(data))
            assert (label.mode, label.size) == ("P", image.size) and np.array(label).max() <= 20


def test_data_without_a_benchmark_cannot_be_submitted(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    words = [*SMALL, "MODEL.SEM_SEG_HEAD.NUM_CLASSES=11", "MODEL.WEIGHTS=19.pth", "DATASETS.TEST=[digit_scenes_val]"]
    with pytest.raises(SystemExit) as caught:
        evaluate.main([*words, "--submission", "OUTPUT_DIR=none"])
    assert caught.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("dl_test: error: --submission: ") and "digit_scenes_val" in error
    assert not (folder / "none").exists()
