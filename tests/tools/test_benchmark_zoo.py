"""Comparison of experiments: training commands, table and documents."""

import json
import subprocess
from pathlib import Path

import cv2
import pytest
from zoo import main

from dl_lib.config import get_cfg
from dl_lib.modeling import build_model

ROOT = Path(__file__).parents[2]
EXPERIMENTS = [str(ROOT / "playground" / "Zoo" / name) for name in ("Digits.SPConv", "Digits.ReXNetLite")]


def test_table_of_costs_latency_and_scores(tmp_path, capsys):
    for seed, score in enumerate((0.5, 0.6, 0.7)):
        folder = tmp_path / "runs" / f"Digits.SPConv-seed{seed}"
        folder.mkdir(parents=True)
        (folder / "results.json").write_text(json.dumps({"datasets": {"digit_scenes_val": {"mIoU": score}}}))
    document = tmp_path / "zoo.md"
    words = ["--runs", str(tmp_path / "runs"), "--size", "64x96", "--repeats", "1", "--output", str(tmp_path)]
    main(["table", *EXPERIMENTS, *words, "--document", str(document), "--figure", str(tmp_path / "zoo.png")])
    assert cv2.imread(str(tmp_path / "zoo.png")) is not None
    assert document.read_text() in capsys.readouterr().out
    lines = [line for line in document.read_text().splitlines() if line.startswith("|")]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines[2:]]
    for row, folder in zip(rows, EXPERIMENTS, strict=True):
        parameters = sum(p.numel() for p in build(folder).parameters())
        assert row[:2] == [Path(folder).name, f"{parameters:,}"] and float(row[3]) > 0
    assert rows[0][2] == f"{build(EXPERIMENTS[0]).costs.table(64, 96).dense / 1e9:.3f}"
    assert rows[0][4:] == ["60.00 ± 10.00", "3"] and rows[1][4:] == ["-", "-"]


def build(folder):
    cfg = get_cfg()
    cfg.merge_from_file(Path(folder) / "config.yaml")
    return build_model(cfg)


def test_finished_runs_are_not_trained_again(tmp_path, monkeypatch):
    commands = []
    monkeypatch.setattr(
        subprocess, "run", lambda words, **o: commands.append(words[2:]) or subprocess.CompletedProcess([], 0)
    )
    finished = tmp_path / "Digits.SPConv-seed1"
    finished.mkdir()
    (finished / "results.json").write_text("{}")
    main(["train", *EXPERIMENTS, "--runs", str(tmp_path), "--seeds", "1,4", "--iterations", "7"])
    assert [(Path(words[1]).name, *words[2:]) for words in commands] == [
        (name, f"SEED={seed}", f"OUTPUT_DIR={tmp_path}/{name}-seed{seed}", "SOLVER.LR_SCHEDULER.MAX_ITER=7")
        for name, seed in (("Digits.ReXNetLite", 1), ("Digits.SPConv", 4), ("Digits.ReXNetLite", 4))
    ]


def test_failed_runs_and_unreadable_results_end_with_a_message(tmp_path, monkeypatch, capsys):
    failed = subprocess.CompletedProcess([], 3)
    monkeypatch.setattr(subprocess, "run", lambda words, **options: failed)
    with pytest.raises(SystemExit, match="2"):
        main(["train", EXPERIMENTS[0], "--runs", str(tmp_path)])
    assert "failed with status 3" in capsys.readouterr().err
    (tmp_path / "Digits.SPConv-seed0").mkdir()
    with pytest.raises(SystemExit, match="2"):
        main(["table", EXPERIMENTS[0], "--runs", str(tmp_path)])
    assert "results.json must contain the mIoU of exactly one dataset" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["digits", "cityscapes"])
def test_zoo_page_shows_the_generated_tables(name):
    lines = (ROOT / "docs" / "zoo" / f"{name}.md").read_text().splitlines()
    table = [line for line in lines if line.startswith("|")]
    assert len(table) == 10
    assert "\n".join(table) in (ROOT / "docs" / "zoo.md").read_text()
