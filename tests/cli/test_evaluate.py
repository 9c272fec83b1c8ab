"""Command `dl_lib evaluate`: weights (raw or EMA) and evaluation folders."""

import csv
import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from torch.utils.data import Subset

from dl_lib.checkpoint import Checkpointer
from dl_lib.cli import evaluate
from dl_lib.config import get_cfg, write_config
from dl_lib.data import DatasetCatalog
from dl_lib.engine.training.ema import ModelEMA
from dl_lib.evaluation.runner import run as run_module
from dl_lib.modeling import build_model
from dl_lib.utils.folder_lock import locked_folder
from dl_lib.utils.folder_replacement import partial_folder
from tests.helpers.training import restore_logging

DATASET = "two_evaluated_scenes"
SMALL = [
    *("MODEL.BACKBONE.LAYER_NUM=1", "MODEL.BACKBONE.CELL_NUM_LIST=[2]", "MODEL.BACKBONE.MAX_STRIDE=8"),
    *("MODEL.SEM_SEG_HEAD.IN_FEATURES=[layer_0,layer_1]", "MODEL.SEM_SEG_HEAD.NUM_CLASSES=11"),
    *("MODEL.BACKBONE.INIT_CHANNEL=8", "MODEL.DEVICE=cpu", "DATALOADER.NUM_WORKERS=0", "INPUT.MIN_SIZE_TEST=0"),
    *(f"DATASETS.TEST=[{DATASET}]", "SOLVER.EMA.DECAY=0.9"),
]
RAW, EMA = 5, 3  # class that each of them predicts everywhere


def predict_everywhere(model, label):
    (bias,) = (p for name, p in model.sem_seg_head.named_parameters() if name.endswith("bias") and len(p) == 11)
    torch.nn.init.zeros_(bias)
    bias.data[label] = 1e6


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Run folder whose checkpoint predicts one class with its raw and another with its EMA weights."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(DatasetCatalog, "_entries", dict(DatasetCatalog._entries))
    scenes = DatasetCatalog.get("digit_scenes_val")
    DatasetCatalog.register(DATASET, lambda: Subset(scenes, range(2)), DatasetCatalog.meta("digit_scenes_val"))
    Path("config.yaml").touch()
    cfg = get_cfg()
    cfg.merge_from_list(SMALL)
    model = build_model(cfg)
    predict_everywhere(model, EMA)
    ema = ModelEMA(model, decay=0.9)
    predict_everywhere(model, RAW)
    Checkpointer(model, tmp_path / "run", ema=ema).save("model_final")
    return tmp_path / "run"


def run(*words):
    """Evaluate; return the exit status."""
    with restore_logging():
        try:
            evaluate.main([*SMALL, *map(str, words)])
        except SystemExit as exit:
            return exit.code
    return 0


def files_of(folder):
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def predicted_by(folder, *words, name=DATASET):
    """Evaluate; return the predicted classes."""
    assert run(f"OUTPUT_DIR={folder}", "--name", name, *words) == 0
    with (folder / "evaluations" / name / "confusion.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    pixels = [[int(cell) for cell in row[1:]] for row in rows[1:]]
    return {label for label in range(11) if any(row[label] for row in pixels)}


def test_ema_weights_are_evaluated_by_default(folder, capsys):
    assert predicted_by(folder) == {EMA}
    assert "Evaluating the EMA weights" in capsys.readouterr().out
    assert predicted_by(folder, "SOLVER.EMA.EVALUATE=False", name="raw") == {RAW}
    assert predicted_by(folder, "SOLVER.EMA.DECAY=0", name="no_ema") == {RAW}
    assert "EMA weights" not in capsys.readouterr().out


def test_a_checkpoint_without_ema_weights_is_evaluated_with_a_warning(folder, capsys):
    held = torch.load(folder / "model_final.pth", weights_only=True)
    torch.save({"model": held["model"]}, folder / "weights.pth")
    assert predicted_by(folder, f"MODEL.WEIGHTS={folder / 'weights.pth'}") == {RAW}
    assert f"No EMA weights in {folder / 'weights.pth'}" in capsys.readouterr().out


def test_evaluations_leave_the_run_and_each_other_unchanged(folder, capsys):
    (folder / "results.json").write_text("of the training run")
    trained = files_of(folder)
    assert run(f"OUTPUT_DIR={folder}") == 0
    first = folder / "evaluations" / DATASET
    assert {path.name for path in first.iterdir()} == {
        *("config.yaml", "log.txt", "results.json", "results.md", "per_image.csv", "confusion.csv", "route.png"),
        *("confusion.png", "gates.npz", "image_routes.png", "report_data.npz"),
    }
    config = get_cfg()
    config.merge_from_file(first / "config.yaml")
    assert str(folder) == config.OUTPUT_DIR and dict(config.MODEL)["WEIGHTS"] == str(folder / "model_final.pth")
    before = files_of(first)
    for words, problem in (
        (["TEST.MULTI_SCALE.FLIP=True"], "TEST.MULTI_SCALE.FLIP was False, not True"),
        (["MODEL.WEIGHTS=other.pth"], f"MODEL.WEIGHTS was '{folder}/model_final.pth', not '{folder.parent}/other.pth'"),
    ):
        (folder.parent / "other.pth").write_bytes((folder / "model_final.pth").read_bytes())
        assert run(f"OUTPUT_DIR={folder}", *words) == 2
        error = capsys.readouterr().err
        assert "--name: this folder holds an evaluation under other settings" in error and problem in error
    assert run(f"OUTPUT_DIR={folder}", "TEST.MULTI_SCALE.FLIP=True", "--name", "flipped") == 0
    assert files_of(first) == before
    assert {name for name in files_of(folder) if not name.startswith("evaluations/")} == set(trained)
    assert sorted(path.name for path in (folder / "evaluations").iterdir()) == ["flipped", DATASET]


def test_an_evaluation_is_replaced_as_a_whole(folder, monkeypatch, capsys):
    words = [f"OUTPUT_DIR={folder}", "--name", "val"]
    assert run(*words) == 0
    first = folder / "evaluations" / "val"
    (first / "of_the_first.txt").touch()
    before = files_of(first)
    with monkeypatch.context() as patch, pytest.raises(RuntimeError, match="crash"):
        patch.setattr("dl_lib.evaluation.runner.run.write_report", lambda *args, **settings: raise_crash())
        run(*words)
    assert files_of(first) == before
    with locked_folder(partial_folder(first)):
        assert run(*words) == 2
        assert "--name: another process is writing to this folder" in capsys.readouterr().err
    (folder / "model_final.pth").rename(folder / "model_0000007.pth")  # a later checkpoint of the run
    (folder / "last_checkpoint").write_text("model_0000007.pth")
    assert run(*words, "SEED=3", "DATALOADER.NUM_WORKERS=1") == 0
    assert files_of(first).keys() == before.keys() - {"of_the_first.txt"}
    assert [path.name for path in (folder / "evaluations").iterdir()] == ["val"]


def test_a_folder_deleted_during_the_evaluation_is_an_error(folder, monkeypatch, capsys):
    report = run_module.write_report

    def delete(*args, **settings):
        shutil.rmtree(folder / "evaluations")
        return report(*args, **settings)

    monkeypatch.setattr(run_module, "write_report", delete)
    assert run(f"OUTPUT_DIR={folder}") == 2
    assert "was deleted or moved while files were written" in capsys.readouterr().err


def test_a_damaged_run_is_not_replaced_by_another_one(folder, capsys):
    """The config of a copied run names the folder of the original run."""
    copy = shutil.copytree(folder, "copy")
    (Path(copy) / "config.yaml").write_text(f"OUTPUT_DIR: {folder}")
    (Path(copy) / "last_checkpoint").unlink()
    os.mkfifo(f"{copy}/last_checkpoint")
    assert run("--config-file", copy) == 2
    assert "path='copy/last_checkpoint'" in capsys.readouterr().err


def raise_crash():
    raise RuntimeError("crash")


def test_run_evaluated_into_another_folder(folder):
    write_config(get_cfg(), folder)
    before = files_of(folder)
    assert run("--config-file", folder, "OUTPUT_DIR=elsewhere") == 0
    assert files_of(folder) == before
    results = Path("elsewhere/evaluations") / DATASET / "results.json"
    assert json.loads(results.read_text())["datasets"][DATASET]["images"] == 2


@pytest.mark.parametrize("name", ["", "../outside", "/absolute", "a\nb", ".hidden", "x" * 300])
def test_names_that_are_no_folder_names_are_rejected(folder, name, capsys):
    before = files_of(folder.parent)
    assert run(f"OUTPUT_DIR={folder}", f"--name={name}") == 2
    assert "--name: must be text of 1 to 80 bytes" in capsys.readouterr().err
    assert files_of(folder.parent) == before


def test_results_on_valid_datasets_are_kept(folder, capsys):
    scenes = DatasetCatalog.get(DATASET)
    unlabelled = [{**sample, "sem_seg": sample["sem_seg"] * 0 + 255} for sample in scenes]
    DatasetCatalog.register("unlabelled", lambda: unlabelled, DatasetCatalog.meta(DATASET))
    assert run(f"OUTPUT_DIR={folder}", f"DATASETS.TEST=[unlabelled,{DATASET}]") == 2
    assert "no pixel of unlabelled is labelled" in capsys.readouterr().err
    results = json.loads((folder / "evaluations" / f"unlabelled+{DATASET}" / "results.json").read_text())
    assert list(results["datasets"]) == [DATASET]
