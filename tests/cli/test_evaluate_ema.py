"""`dl_test` on a checkpoint that holds an average of the weights: which of the two it evaluates."""

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
from tests.helpers.training import logging_as_before

SET = "two_digit_scenes"
SMALL = [
    *("MODEL.BACKBONE.LAYER_NUM=1", "MODEL.BACKBONE.CELL_NUM_LIST=[2]", "MODEL.BACKBONE.MAX_STRIDE=8"),
    *("MODEL.SEM_SEG_HEAD.IN_FEATURES=[layer_0,layer_1]", "MODEL.SEM_SEG_HEAD.NUM_CLASSES=11"),
    *("MODEL.BACKBONE.INIT_CHANNEL=8", "MODEL.DEVICE=cpu", "DATALOADER.NUM_WORKERS=0", "INPUT.MIN_SIZE_TEST=0"),
    *(f"DATASETS.TEST=[{SET}]", "SOLVER.EMA.DECAY=0.9"),
]
WEIGHTS, AVERAGE = 5, 3  # the class that each of them sees everywhere


def see_everywhere(model, label):
    (bias,) = (p for name, p in model.sem_seg_head.named_parameters() if name.endswith("bias") and len(p) == 11)
    torch.nn.init.zeros_(bias)
    bias.data[label] = 1e6


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A run's folder whose checkpoint sees one class with its weights and another one with their average."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(DatasetCatalog, "_entries", dict(DatasetCatalog._entries))
    scenes = DatasetCatalog.get("digit_scenes_val")
    DatasetCatalog.register(SET, lambda: Subset(scenes, range(2)), DatasetCatalog.meta("digit_scenes_val"))
    Path("config.yaml").touch()
    cfg = get_cfg()
    cfg.merge_from_list(SMALL)
    model = build_model(cfg)
    see_everywhere(model, AVERAGE)
    ema = ModelEMA(model, decay=0.9)
    see_everywhere(model, WEIGHTS)
    Checkpointer(model, tmp_path / "run", ema=ema).save("model_final")
    return tmp_path / "run"


def seen_by(folder, *words):
    """The classes of all predictions."""
    with logging_as_before():
        evaluate.main([*SMALL, f"OUTPUT_DIR={folder}", *words])
    with (folder / "confusion.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    pixels = [[int(cell) for cell in row[1:]] for row in rows[1:]]
    return {label for label in range(11) if any(row[label] for row in pixels)}


def test_the_average_is_evaluated_unless_the_weights_are_asked_for(folder, capsys):
    assert seen_by(folder) == {AVERAGE}
    assert "evaluating the average of the weights" in capsys.readouterr().out
    assert seen_by(folder, "SOLVER.EMA.EVALUATE=False") == {WEIGHTS}
    assert seen_by(folder, "SOLVER.EMA.DECAY=0") == {WEIGHTS}
    assert "the average of the weights" not in capsys.readouterr().out


def test_a_file_without_an_average_is_evaluated_with_a_warning(folder, capsys):
    held = torch.load(folder / "model_final.pth", weights_only=True)
    torch.save({"model": held["model"]}, folder / "weights.pth")
    assert seen_by(folder, f"MODEL.WEIGHTS={folder / 'weights.pth'}") == {WEIGHTS}
    assert f"the file holds none. Received: {folder / 'weights.pth'}" in capsys.readouterr().out
