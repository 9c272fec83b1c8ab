"""Evaluation of a checkpoint with EMA weights: selection between raw and EMA weights."""

import csv
from pathlib import Path

import pytest
import torch
from torch.utils.data import Subset

from dl_lib.checkpoint import Checkpointer
from dl_lib.cli import evaluate
from dl_lib.config import get_cfg
from dl_lib.data import DatasetCatalog
from dl_lib.engine.training.ema import ModelEMA
from dl_lib.modeling import build_model
from tests.helpers.training import restore_logging

DATASET = "two_digit_scenes"
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


def predicted_by(folder, *words):
    """Evaluate; return the predicted classes."""
    with restore_logging():
        evaluate.main([*SMALL, f"OUTPUT_DIR={folder}", *words])
    with (folder / "confusion.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    pixels = [[int(cell) for cell in row[1:]] for row in rows[1:]]
    return {label for label in range(11) if any(row[label] for row in pixels)}


def test_ema_weights_are_evaluated_by_default(folder, capsys):
    assert predicted_by(folder) == {EMA}
    assert "Evaluating the EMA weights" in capsys.readouterr().out
    assert predicted_by(folder, "SOLVER.EMA.EVALUATE=False") == {RAW}
    assert predicted_by(folder, "SOLVER.EMA.DECAY=0") == {RAW}
    assert "EMA weights" not in capsys.readouterr().out


def test_a_checkpoint_without_ema_weights_is_evaluated_with_a_warning(folder, capsys):
    held = torch.load(folder / "model_final.pth", weights_only=True)
    torch.save({"model": held["model"]}, folder / "weights.pth")
    assert predicted_by(folder, f"MODEL.WEIGHTS={folder / 'weights.pth'}") == {RAW}
    assert f"No EMA weights in {folder / 'weights.pth'}" in capsys.readouterr().out
